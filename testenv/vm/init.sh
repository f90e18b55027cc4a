#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# First program in the VM: loads what is needed to reach the host's file tree,
# lays a writable overlay over it, mounts the kernel's own file systems and
# hands over to /vm/run inside that tree. Whatever fails is told on the console
# and ends the VM; the host then sees that it never became ready.

/bin/busybox mkdir -p /proc /sys /dev /share /rw /new
/bin/busybox --install -s /bin
export PATH=/bin

fail() {
	echo "vm: $*" >/dev/console
	poweroff -f
}
need() {
	"$@" || fail "failed: $*"
}

mount -t devtmpfs dev /dev || poweroff -f
need mount -t proc proc /proc
need mount -t sysfs sys /sys
for module in /boot/*.ko; do
	[ -e "$module" ] || continue
	need insmod "$module"
done

need mount -t virtiofs -o ro host /share
need mount -t tmpfs rw /rw
need mkdir /rw/upper /rw/work
need mount -t overlay -o lowerdir=/share/root,upperdir=/rw/upper,workdir=/rw/work root /new

need mount -t proc proc /new/proc
need mount -t sysfs sys /new/sys
need mount -t devtmpfs dev /new/dev
need mkdir -p /new/dev/pts /new/dev/shm
for link in fd:self/fd stdin:self/fd/0 stdout:self/fd/1 stderr:self/fd/2; do
	need ln -sfn "/proc/${link#*:}" "/new/dev/${link%%:*}"
done
need mount -t devpts -o mode=620,ptmxmode=666 pts /new/dev/pts
need mount -t tmpfs -o mode=1777 shm /new/dev/shm
need mount -t tmpfs -o mode=755 run /new/run
# /tmp shows the host's, where the state of test nodes lies whose owners live there
need mkdir -p /new/run/lock /new/run/vm/out /new/run/vm/tmp /new/tmp
need chmod 1777 /new/tmp /new/run/vm/tmp
export TMPDIR=/run/vm/tmp
need mount -t bpf bpf /new/sys/fs/bpf
need mount -t cgroup2 cgroup /new/sys/fs/cgroup
need mount -t tracefs tracing /new/sys/kernel/tracing
need mount -t debugfs debug /new/sys/kernel/debug

modules=/lib/modules/$(uname -r)
need mkdir -p "/new$modules"
need mount --bind "/share/modules" "/new$modules"

hostname vm
need ip link set lo up
need cp /vm/run /new/run/vm/run
exec switch_root -c /dev/console /new /bin/sh /run/vm/run
