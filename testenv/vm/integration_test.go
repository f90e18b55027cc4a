// SPDX-License-Identifier: Apache-2.0

// This test boots real VMs: it needs root, QEMU and (when nothing is cached)
// Debian's archive. "go test -short" leaves it out.

package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("boots VMs; left out by -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	run := func(t *testing.T, o Options) (Result, string, string, error) {
		var stdout, stderr, log strings.Builder
		o.Kernel, o.Stdout, o.Stderr, o.Log = "6.1", &stdout, &stderr, &log
		result, err := Run(t.Context(), o)
		if log.Len() > 0 {
			t.Log(log.String())
		}
		return result, stdout.String(), stderr.String(), err
	}
	t.Run("output, files and success", func(t *testing.T) {
		out := t.TempDir()
		result, stdout, stderr, err := run(t, Options{
			Command: []string{"sh", "-c", `uname -r; pwd; echo "$WORD"; echo complaint >/dev/stderr; echo kept >"$VM_OUT/file"; echo lost >here; lsmod | grep -c ^veth; modprobe veth; lsmod | grep -c ^veth`},
			Env:     []string{"WORD=it's $HOME"},
			Out:     out,
		})
		if err != nil || result.ExitCode != 0 || result.Boots < 1 {
			t.Fatalf("result %+v, error %v, standard error %q", result, err, stderr)
		}
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Join([]string{result.Release, here, "it's $HOME", "0", "1", ""}, "\n"); stdout != want || !strings.HasPrefix(result.Release, "6.1.0-") {
			t.Errorf("release %q, standard output %q, want %q", result.Release, stdout, want)
		}
		if stderr != "complaint\n" {
			t.Errorf("standard error = %q", stderr)
		}
		if kept, err := os.ReadFile(filepath.Join(out, "file")); err != nil || string(kept) != "kept\n" {
			t.Errorf("file from the VM = %q, %v", kept, err)
		}
		if _, err := os.Stat("here"); err == nil {
			t.Error("the VM wrote to the host's files")
		}
	})
	t.Run("exit status", func(t *testing.T) {
		if result, _, _, err := run(t, Options{Command: []string{"sh", "-c", "exit 7"}, CPUs: 1}); err != nil || result.ExitCode != 7 {
			t.Errorf("result %+v, error %v, want exit status 7", result, err)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		result, _, _, err := run(t, Options{Command: []string{"sleep", "600"}, Timeout: 12 * time.Second})
		if !errors.Is(err, ErrTimeout) || result.Wall > 20*time.Second {
			t.Errorf("after %v error %v, want %v", result.Wall, err, ErrTimeout)
		}
	})
	t.Run("panic", func(t *testing.T) {
		_, stdout, _, err := run(t, Options{Command: []string{"sh", "-c", "echo before; echo c >/proc/sysrq-trigger; sleep 60"}})
		if err == nil || !strings.Contains(err.Error(), "died while the command ran: [") || !strings.Contains(err.Error(), "sysrq triggered crash") || stdout != "before\n" {
			t.Errorf("standard output %q, error %v, want the kernel's panic", stdout, err)
		}
	})
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
