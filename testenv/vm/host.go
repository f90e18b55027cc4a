// SPDX-License-Identifier: Apache-2.0

// This file asks the host for what a VM takes: root, programs, and the list of
// file systems to share.

package vm

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A tool is a program the host must have, and the Debian package it is in.
type tool struct{ program, pkg string }

func fetchTools() []tool {
	return []tool{
		{"apt-get", "apt"}, {"apt-cache", "apt"}, {"apt-config", "apt"}, {"dpkg-deb", "dpkg"},
		{"modprobe", "kmod"}, {"depmod", "kmod"}, {"xz", "xz-utils"},
	}
}

func bootTools() []tool {
	return []tool{{qemuProgram, "qemu-system-x86"}, {"unshare", "util-linux"}, {"mount", "mount"}}
}

// checkTools returns one error naming every missing program with its package.
func checkTools(tools []tool) error {
	var missing []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", t.program, t.pkg))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing on this machine: %s: make deps-test installs them", strings.Join(missing, ", "))
	}
	return nil
}

// findVirtiofsd returns the program that shares the file tree, with its
// options for sharing dir on socket: QEMU's own one (Debian 12) or its
// successor in Rust (Debian 13, Ubuntu 24.04), whose package keeps the old path
// as a link.
func findVirtiofsd(dir, socket string) ([]string, error) {
	const original, successor = "/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"
	if _, err := os.Stat(successor); err == nil {
		args := []string{successor, "--socket-path=" + socket, "--shared-dir=" + dir, "--cache=always", "--sandbox=chroot", "--log-level=error"}
		help, err := exec.Command(successor, "--help").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --help: %w", successor, err)
		}
		// Newer ones announce mounts below dir, which overlayfs then refuses
		// to cross; older ones neither do so nor know the option.
		if strings.Contains(string(help), "--no-announce-submounts") {
			args = append(args, "--no-announce-submounts")
		}
		return args, nil
	}
	if _, err := os.Stat(original); err == nil {
		return []string{original, "--socket-path=" + socket, "-o", "source=" + dir + ",cache=always,no_posix_lock,sandbox=chroot", "-f"}, nil
	}
	return nil, fmt.Errorf("neither %s (package qemu-system-common, Debian 12) nor %s (package virtiofsd) is installed: make deps-test installs it", original, successor)
}

// findBusybox returns a busybox that runs without any library.
func findBusybox() (string, error) {
	for _, name := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		f, err := elf.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		static := !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
		f.Close()
		if static {
			return name, nil
		}
	}
	return "", errors.New("no statically linked busybox on this machine: install busybox-static")
}

// A mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct{ point, fsType string }

func parseMountinfo(r io.Reader) ([]mount, error) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []mount
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !ok || len(front) < 5 || len(back) < 1 {
			return nil, fmt.Errorf("mountinfo: cannot read line %q", sc.Text())
		}
		mounts = append(mounts, mount{point: unescape.Replace(front[4]), fsType: back[0]})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	return mounts, nil
}

// sharedMounts picks the mount points below / that the VM is to see: files,
// not the host kernel's interfaces (the VM has its own) nor per-user or
// per-container views. A later mount on the same point hides the earlier one,
// as it does on the host.
func sharedMounts(mounts []mount) []string {
	own := []string{"/proc", "/sys", "/dev", "/run"}
	skip := []string{"autofs", "overlay", "squashfs", "nsfs", "fuse.lxcfs", "fuse.snapfuse", "fuse.portal", "fuse.gvfsd-fuse", "fusectl", "binfmt_misc", "rpc_pipefs", "proc", "sysfs"}
	below := func(point string, dirs []string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return point == d || strings.HasPrefix(point, d+"/") })
	}
	var points []string
	for _, m := range mounts {
		if m.point == "/" || below(m.point, own) {
			continue
		}
		if slices.Contains(skip, m.fsType) {
			own = append(own, m.point)
			continue
		}
		if !slices.Contains(points, m.point) {
			points = append(points, m.point)
		}
	}
	return points
}

func hostMounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounts of this machine: %w", err)
	}
	defer f.Close()
	mounts, err := parseMountinfo(f)
	if err != nil {
		return nil, err
	}
	return sharedMounts(mounts), nil
}
