// SPDX-License-Identifier: Apache-2.0

// The kernel's own word on drops, for checking the scenario table: the
// skb:kfree_skb tracepoint, read through a tracefs instance of our own that is
// mounted where only a helper thread of this process sees it. The record is the
// whole machine's; a test looks for what must be in it.

package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernelLog is a running record.
type kernelLog struct {
	trace     *os.File // read: all events since the last truncation
	control   *os.File // write: truncates
	instances *os.File // folder
	instance  string
}

// drop is one reported drop. Kernels before 5.17 give no reason.
type drop struct{ reason, location string }

// symbolic tells whether the location is a function: before 6.12 the tracepoint
// prints a bare or hashed address.
func (d drop) symbolic() bool {
	_, err := strconv.ParseUint(d.location, 16, 64)
	return err != nil
}

func (d drop) String() string { return d.reason + " at " + d.location }

// newKernelLog starts a record; the test is skipped where tracefs cannot be
// mounted.
func newKernelLog(t *testing.T) *kernelLog {
	t.Helper()
	k := &kernelLog{instance: fmt.Sprintf("pathtrace-%d", os.Getpid())}
	mount := t.TempDir()
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes, with its mount namespace, when the goroutine ends
		errs <- k.open(mount)
	}()
	if err := <-errs; err != nil {
		t.Skipf("no kernel record of drops: %v", err)
	}
	t.Cleanup(func() {
		err := errors.Join(k.trace.Close(), k.control.Close(),
			unix.Unlinkat(int(k.instances.Fd()), k.instance, unix.AT_REMOVEDIR), k.instances.Close())
		if err != nil {
			t.Error(err)
		}
	})
	return k
}

// open mounts tracefs in a mount namespace of the calling thread's own and opens
// what is needed; open files outlive the mount.
func (k *kernelLog) open(mount string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tracefs", mount, "tracefs", 0, ""); err != nil {
		return fmt.Errorf("mount tracefs: %w", err)
	}
	folder := filepath.Join(mount, "instances", k.instance)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	var err error
	if k.instances, err = os.Open(filepath.Dir(folder)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "events/skb/kfree_skb/enable"), []byte("1"), 0); err != nil {
		return err
	}
	if k.trace, err = os.Open(filepath.Join(folder, "trace")); err != nil {
		return err
	}
	k.control, err = os.OpenFile(filepath.Join(folder, "trace_marker"), os.O_WRONLY, 0)
	return err
}

// mark writes a line into the record.
func (k *kernelLog) mark(t *testing.T, text string) {
	t.Helper()
	if _, err := k.control.WriteString(text + "\n"); err != nil {
		t.Fatal(err)
	}
}

// Both forms: "location=nf_hook_slow+0xb1/0xe0 reason: NETFILTER_DROP" and, with
// rx_sk, "rx_sk=(nil) protocol=2048 location=... reason: ...".
var dropLine = regexp.MustCompile(`kfree_skb: .*location=(\S+)(?: reason: (\S+))?`)

// dropWithin is waited for a drop that must come: a packet under way on a busy
// machine, or the last of a neighbour's tries, may take longer than its sender
// waits.
const dropWithin = 5 * time.Second

// await waits until the drops after the mark are enough, and lists them; after
// dropWithin it lists what there is.
func (k *kernelLog) await(t *testing.T, mark string, enough func([]drop) bool) []drop {
	t.Helper()
	for deadline := time.Now().Add(dropWithin); ; time.Sleep(20 * time.Millisecond) {
		if drops := k.since(t, mark); enough(drops) || time.Now().After(deadline) {
			return drops
		}
	}
}

// since lists the drops after the last line that bears the mark, each kind once.
func (k *kernelLog) since(t *testing.T, mark string) []drop {
	t.Helper()
	if _, err := k.trace.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(k.trace)
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.LastIndex(string(text), mark)
	if begin < 0 {
		t.Fatalf("mark %q is not in the kernel's record", mark)
	}
	var drops []drop
	seen := map[drop]bool{}
	for _, m := range dropLine.FindAllStringSubmatch(string(text[begin:]), -1) {
		function, _, _ := strings.Cut(m[1], "+")
		d := drop{reason: m[2], location: function}
		if d.reason == "" {
			d.reason = "NOT_SPECIFIED"
		}
		if !seen[d] {
			seen[d] = true
			drops = append(drops, d)
		}
	}
	return drops
}
