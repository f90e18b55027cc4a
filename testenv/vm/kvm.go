// SPDX-License-Identifier: Apache-2.0

// This file finds out, by trying, whether this machine's /dev/kvm can run a
// stock kernel: some machines offer the device and then refuse what such a
// kernel needs. The answer is kept in the cache until the machine is booted
// anew.

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kvmLimit is how long the trial boot may take; with KVM it takes one second.
const kvmLimit = 20 * time.Second

// kvmWord is what the trial boot prints when it got to user space.
const kvmWord = "pathtrace-kvm-works"

const kvmInit = "#!/bin/busybox sh\n/bin/busybox mkdir -p /dev\n/bin/busybox mount -t devtmpfs dev /dev\necho " + kvmWord + " >/dev/console\n/bin/busybox poweroff -f\n"

// kvmAnswer is the cached result.
type kvmAnswer struct {
	Boot  string `json:"boot_id"` // of the host, when tried
	Works bool   `json:"works"`
	Said  string `json:"said,omitempty"` // QEMU's last words where it does not
}

func (c *Cache) kvmWorks(ctx context.Context, h host) (bool, error) {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false, nil // no KVM here, or not for us: emulation does
	}
	device.Close()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, fmt.Errorf("kvm: %w", err)
	}
	boot, file := strings.TrimSpace(string(id)), filepath.Join(c.dir, "kvm.json")
	var known kvmAnswer
	if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &known) == nil && known.Boot == boot {
		return known.Works, nil
	}
	answer, err := tryKVM(ctx, h)
	if err != nil {
		return false, fmt.Errorf("kvm: %w", err)
	}
	answer.Boot = boot
	text, err := json.Marshal(answer)
	if err != nil {
		return false, fmt.Errorf("kvm: %w", err)
	}
	return answer.Works, replaceFile(file, append(text, '\n'))
}

// tryKVM boots the kernel as far as a first program.
func tryKVM(ctx context.Context, h host) (kvmAnswer, error) {
	dir, remove, err := workDir()
	if err != nil {
		return kvmAnswer{}, err
	}
	defer remove()
	busybox, err := os.ReadFile(h.busybox)
	if err != nil {
		return kvmAnswer{}, err
	}
	var image cpioWriter
	image.dir("bin")
	image.file("bin/busybox", 0o755, busybox)
	image.file("init", 0o755, []byte(kvmInit))
	m := machine{accel: accelKVM, cpus: 1, memory: "512M", kernel: filepath.Join(h.kernel.Dir, "vmlinuz"), initramfs: filepath.Join(dir, "initramfs")}
	if err := os.WriteFile(m.initramfs, image.finish(), 0o644); err != nil {
		return kvmAnswer{}, err
	}
	said := &tail{limit: 16 << 10}
	cmd := exec.Command(qemuProgram, m.arguments()...)
	cmd.Stdout, cmd.Stderr = said, said
	p, err := startGuarded(cmd)
	if err != nil {
		return kvmAnswer{}, err
	}
	defer p.stop()
	select {
	case <-p.done:
	case <-time.After(kvmLimit):
		p.stop()
	case <-ctx.Done():
		return kvmAnswer{}, context.Cause(ctx)
	}
	if text := said.lines(50); strings.Contains(text, kvmWord) {
		return kvmAnswer{Works: true}, nil
	}
	return kvmAnswer{Said: said.lines(2)}, nil
}

// replaceFile writes a file in one step, for readers in other processes.
func replaceFile(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	_, err = f.Write(text)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("kernel cache: %w", err)
	}
	return nil
}
