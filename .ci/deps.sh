#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deps.sh demo|test: installs with apt what the demo or the tests lack on Debian
# 12 and Ubuntu 24.04, asking nothing; does nothing where nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/lib.sh

missing=()

# need PACKAGE THING...: the package is wanted unless all things are there: a
# path, or a program's name.
need() {
	local package=$1 thing
	shift
	for thing; do
		case $thing in
		/*) [ -e "$thing" ] && continue ;;
		*) command -v "$thing" >/dev/null && continue ;;
		esac
		missing+=("$package")
		return
	done
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

need_for_demo() {
	need ca-certificates /etc/ssl/certs/ca-certificates.crt
	need iproute2 ip tc
	need iptables iptables-legacy iptables-nft
	need nftables nft
	need ipset ipset
	need conntrack conntrack
	need iputils-ping ping
	need procps sysctl
	need kmod modprobe
	need containernetworking-plugins /usr/lib/cni/bridge
	if [ -z "$(command -v go)" ]; then
		missing+=(golang-go)
	fi
}

# The committed BPF objects are built with clang 14 (see the Makefile): that
# very version proves that they match their source.
need_for_test() {
	need_for_demo
	need clang-14 /usr/lib/llvm-14/bin/clang
	need llvm-14 /usr/lib/llvm-14/bin/llvm-strip
	need libbpf-dev /usr/include/bpf/bpf_helpers.h
	need linux-libc-dev /usr/include/linux/bpf.h
	need qemu-system-x86 qemu-system-x86_64
	need xz-utils xz
	need cpio cpio
	need tshark tshark
	need wireshark-common capinfos
	need ipvsadm ipvsadm
	need tcpdump tcpdump
	need mandoc mandoc
	need wireguard-tools wg
	need fish fish
	need zsh zsh
	need containerd containerd ctr
	need runc runc
	need debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
	installed busybox-static || missing+=(busybox-static)
	. /etc/os-release
	# opens the report; Ubuntu's Chromium is a snap, which cannot be driven here
	if [ "$ID" = debian ]; then
		need chromium-headless-shell chromium-headless-shell
		need fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
	fi
	if [ "$ID" = debian ] && [ "$VERSION_ID" = 12 ]; then
		need qemu-system-common /usr/lib/qemu/virtiofsd
	else
		need virtiofsd /usr/libexec/virtiofsd
	fi
	if [ "$ID" != debian ]; then
		need python-apt-common /usr/share/python-apt/templates/debian.info
	fi
}

install_missing() {
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "missing on this machine: ${missing[*]} (these are Debian package names; there is no apt-get to install them with)"
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "missing on this machine: ${missing[*]}: installing them needs root: run make as root, or install sudo"
	echo "installing: ${missing[*]}"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null </dev/null ||
		die "apt-get could not install: ${missing[*]}: see its message above"
}

# A Go older than 1.21 (Debian 12 has 1.19) cannot fetch a newer tool chain by
# itself, but the tool chain is a Go module like any other, checked against the
# checksum database like any other; only the modes of its programs are lost.
fetch_go() {
	local have want dir
	want=$(go_wanted)
	have=$(go_version go)
	if at_least "$have" 1.21; then
		return
	fi
	dir=$(go_toolchain)
	if [ ! -x "$dir/bin/go" ]; then
		echo "fetching: Go $want (this machine's is $have)"
		(cd / && GOFLAGS= go mod download "golang.org/toolchain@v0.0.1-go$want.linux-amd64") ||
			die "Go $want cannot be had: Debian's package is $have, and the Go module proxy did not give the newer tool chain; install Go $want or later by hand"
		find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod a+x {} +
	fi
}

case ${1-} in
demo) need_for_demo ;;
test) need_for_test ;;
*) die "usage: deps.sh demo|test" ;;
esac
install_missing
fetch_go
