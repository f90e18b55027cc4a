// SPDX-License-Identifier: Apache-2.0

// This file holds the command lines of a VM: QEMU's, and that of the program
// that shares the host's file tree with it.

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const qemuProgram = "qemu-system-x86_64"

// kernelArguments: "quiet" keeps boot messages off the console, "panic=-1"
// ends the VM on a panic, the rest takes away what only costs time or makes
// addresses differ from run to run. conntrack's table is small (8 connections to
// a bucket), since a test fills it.
const kernelArguments = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=on tsc=reliable nf_conntrack.hashsize=4096"

// accelerator is how QEMU runs the CPU.
type accelerator string

const (
	accelKVM       accelerator = "kvm"
	accelTCG       accelerator = "tcg"        // software emulation, a host thread for each CPU
	accelTCGSingle accelerator = "tcg-single" // all CPUs in one host thread: slower, and spared QEMU's races on patched code
)

func (a accelerator) arguments() []string {
	switch a {
	case accelKVM:
		return []string{"-accel", "kvm", "-cpu", "host"}
	case accelTCGSingle:
		return []string{"-accel", "tcg,thread=single", "-cpu", "max"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// machine is everything QEMU's command line depends on.
type machine struct {
	accel             accelerator
	cpus              int
	memory            string // with unit, such as 3G
	kernel, initramfs string
	sharedSocket      string            // of virtiofsd; empty: nothing is shared
	console           string            // socket of the kernel console; empty: QEMU's standard output
	ports             map[string]string // name -> socket
}

// arguments returns QEMU's command line. Every socket is one the runner
// listens on; QEMU connects.
func (m machine) arguments() []string {
	args := append([]string{"-M", "q35"}, m.accel.arguments()...)
	args = append(args, "-smp", strconv.Itoa(m.cpus), "-m", m.memory,
		"-nodefaults", "-nographic", "-no-reboot", "-vga", "none", "-net", "none",
		"-kernel", m.kernel, "-initrd", m.initramfs, "-append", kernelArguments)
	if m.console == "" {
		args = append(args, "-serial", "stdio")
	} else {
		args = append(args, "-chardev", "socket,id=console,path="+m.console, "-serial", "chardev:console")
	}
	if m.sharedSocket != "" {
		args = append(args,
			"-object", "memory-backend-memfd,id=mem,size="+m.memory+",share=on", "-numa", "node,memdev=mem",
			"-chardev", "socket,id=host,path="+m.sharedSocket, "-device", "vhost-user-fs-pci,chardev=host,tag=host")
	}
	if len(m.ports) > 0 {
		args = append(args, "-device", "virtio-serial-pci")
	}
	for _, name := range portNames() {
		if path := m.ports[name]; path != "" {
			args = append(args,
				"-chardev", fmt.Sprintf("socket,id=port-%s,path=%s", name, path),
				"-device", fmt.Sprintf("virtserialport,chardev=port-%s,name=%s", name, name))
		}
	}
	return args
}

func portNames() []string { return []string{portControl, portStdout, portStderr, portOut} }

// shareCommand returns the command that serves dir/root (the host's file tree)
// and dir/modules (the kernel's modules), both read-only, on socket. The tree
// is put together in a mount namespace of its own that dies with the program.
func shareCommand(dir, socket, modules string, mounts []string) (*exec.Cmd, error) {
	server, err := findVirtiofsd(dir, socket)
	if err != nil {
		return nil, err
	}
	var script strings.Builder
	bind := func(from, to string) {
		fmt.Fprintf(&script, "mount --bind %[1]s %[2]s\nmount -o remount,bind,ro %[2]s\n", quote(from), quote(to))
	}
	root := filepath.Join(dir, "root")
	bind("/", root)
	for _, point := range mounts {
		bind(point, root+point)
	}
	bind(modules, filepath.Join(dir, "modules"))
	script.WriteString("exec")
	for _, arg := range server {
		script.WriteString(" " + quote(arg))
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", script.String())
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	return cmd, nil
}
