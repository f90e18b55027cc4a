// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ownerVariable makes this test's program start another and wait to be killed.
const ownerVariable = "PATHTRACE_TEST_OWNER"

// A program does not outlive the one that started it, though that is killed and
// the program itself is stopped.
func TestProgramDiesWithItsOwner(t *testing.T) {
	if dir := os.Getenv(ownerVariable); dir != "" {
		own(t, dir)
	}
	owner := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	owner.Env = append(os.Environ(), ownerVariable+"="+t.TempDir())
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "started "); ok {
			if pid, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := owner.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := owner.Wait(); err == nil {
		t.Error("the owner ended by itself")
	}
	if pid == 0 {
		t.Fatal("the owner started nothing")
	}
	for deadline := time.Now().Add(stopLimit); running(t, pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

// own starts a program, stops it from running, tells its process id, and waits.
func own(t *testing.T, dir string) {
	p, err := startProcess(filepath.Join(dir, "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.pause(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("started %d\n", p.cmd.Process.Pid)
	select {}
}

// running tells whether a process is there and has not ended: who adopts it may
// take a while to wait for it.
func running(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestProcessFails(t *testing.T) {
	never := func() error { return errors.New("not yet") }
	for says, taken := range map[string]bool{"listen tcp 127.0.0.1:1: bind: address already in use": true, "no such flag": false} {
		p, err := startProcess(filepath.Join(t.TempDir(), "log"), "sh", "-c", "echo '"+says+"' >&2; exit 3")
		if err != nil {
			t.Fatal(err)
		}
		err = p.await(t.Context(), never)
		if errors.Is(err, errPortTaken) != taken || !strings.Contains(err.Error(), "sh: ") || !strings.Contains(err.Error(), "exit status 3: it wrote: "+says) {
			t.Errorf("%v", err)
		}
		if err := p.stop(); err != nil {
			t.Errorf("stop what has ended: %v", err)
		}
	}
	if _, err := startProcess(filepath.Join(t.TempDir(), "log"), "/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	var none *process
	if err := none.stop(); err != nil {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	getenv := func(string) string { return dir }
	if _, err := Find(func(string) string { return "" }); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "make test-apiserver") {
		t.Errorf("%v", err)
	}
	// Programs that are missing without a reason are no reason to skip.
	if _, err := Find(getenv); errors.Is(err, ErrAbsent) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, program := range []string{"kube-apiserver", "etcd"} {
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Find(getenv); got != dir || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "unavailable"), []byte("no network\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(getenv); !errors.Is(err, ErrAbsent) || err.Error() != "no kube-apiserver: no network" {
		t.Errorf("%v", err)
	}
}
