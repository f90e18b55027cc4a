// SPDX-License-Identifier: Apache-2.0

// This file writes what runs inside the VM: the initramfs with its first
// program (init.sh), and the script that runs the command and tells the host
// how it went.
//
// The VM talks to the host through four virtio-serial ports:
//
//	control  lines from the VM: "ready RELEASE UPTIME", then "exit STATUS"
//	stdout   the command's standard output
//	stderr   its standard error
//	out      a tar file of $VM_OUT, sent after the command has ended

package vm

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// Ports of the VM, by name.
const (
	portControl = "control"
	portStdout  = "stdout"
	portStderr  = "stderr"
	portOut     = "out"
)

// guestPath is the command's PATH; a Go tool chain unpacked in its usual place
// comes first, as on the host.
const guestPath = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runScript returns the shell script that is the VM's process 1 once its root
// is in place. The command's output goes through pipes because a virtio-serial
// port can be opened by one program at a time, while a pipe behaves as a
// command expects (/dev/stderr and the like). A program the command left
// running may keep a pipe open: the script waits for the rest of the output,
// not for that program.
func runScript(o Options) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	fmt.Fprintf(&b, "export PATH=%s HOME=/root LANG=C.UTF-8 VM_OUT=/run/vm/out\n", quote(guestPath))
	for _, kv := range o.Env {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	b.WriteString(`ulimit -l unlimited
port() {
	for try in 1 2 3 4 5 6 7 8 9 10; do
		for dir in /sys/class/virtio-ports/*; do
			if [ "$(cat "$dir/name" 2>/dev/null)" = "$1" ] && [ -e "/dev/${dir##*/}" ]; then
				echo "/dev/${dir##*/}"
				return
			fi
		done
		sleep 0.1
	done
	echo "vm: no port $1" >/dev/console
}
exec 3>"$(port ` + portControl + `)"
mkfifo /run/vm/stdout /run/vm/stderr
cat /run/vm/stdout >"$(port ` + portStdout + `)" 3>&- & pump1=$!
cat /run/vm/stderr >"$(port ` + portStderr + `)" 3>&- & pump2=$!
echo "ready $(uname -r) $(cut -d' ' -f1 /proc/uptime)" >&3
(
`)
	fmt.Fprintf(&b, "\tcd %s || exit 125\n\texec", quote(o.Dir))
	for _, arg := range o.Command {
		b.WriteString(" " + quote(arg))
	}
	b.WriteString(`
) >/run/vm/stdout 2>/run/vm/stderr </dev/null 3>&-
status=$?
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	kill -0 $pump1 2>/dev/null || kill -0 $pump2 2>/dev/null || break
	sleep 0.05
done
`)
	if o.Out != "" {
		b.WriteString("tar -C \"$VM_OUT\" -cf - . >\"$(port " + portOut + ")\" || status=125\n")
	}
	b.WriteString(`echo "exit $status" >&3
echo o >/proc/sysrq-trigger
sleep 60
`)
	return b.String()
}

// quote makes one shell word of s.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// initramfs returns the cpio archive the kernel unpacks at boot.
func initramfs(k Kernel, busybox, run string) ([]byte, error) {
	var w cpioWriter
	w.dir("bin")
	w.dir("boot")
	w.dir("vm")
	w.file("init", 0o755, initScript)
	w.file("vm/run", 0o755, []byte(run))
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	w.file("bin/busybox", 0o755, program)
	modules, err := filepath.Glob(filepath.Join(k.Dir, "boot", "*.ko"))
	if err != nil {
		return nil, fmt.Errorf("initramfs: modules of %s: %w", k.Release, err)
	}
	for _, name := range modules {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("initramfs: %w", err)
		}
		w.file("boot/"+filepath.Base(name), 0o644, text)
	}
	return w.finish(), nil
}

// cpioWriter writes the "newc" format, the one the kernel reads
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	buf   bytes.Buffer
	inode int
}

func (w *cpioWriter) dir(name string)                         { w.entry(name, 0o040755, nil) }
func (w *cpioWriter) file(name string, mode int, text []byte) { w.entry(name, 0o100000|mode, text) }
func (w *cpioWriter) finish() []byte                          { w.entry("TRAILER!!!", 0, nil); return w.buf.Bytes() }
func (w *cpioWriter) entry(name string, mode int, text []byte) {
	w.inode++
	// ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	fmt.Fprintf(&w.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		w.inode, mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0)
	w.buf.WriteString(name)
	w.buf.WriteByte(0)
	w.pad()
	w.buf.Write(text)
	w.pad()
}

func (w *cpioWriter) pad() {
	for w.buf.Len()%4 != 0 {
		w.buf.WriteByte(0)
	}
}
