// SPDX-License-Identifier: Apache-2.0

// capture_test.go checks --write and read together: what was printed is printed
// again, and when the file cannot be written the trace goes on.

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// again reads a file with the program.
func again(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, play(t, "", append([]string{"read"}, args...)...))
}

func TestReadGivesWhatWasPrinted(t *testing.T) {
	for script, status := range map[string]int{"short delivered dropped": 2, "short delivered": 0, "short": 3} {
		for _, how := range [][]string{{"-o", "text"}, {"-o", "json"}, {"-o", "wide"}, {"-o", "json", "--drops-only"}} {
			for _, all := range []string{"--write-all", "--snaplen=64"} {
				file := filepath.Join(t.TempDir(), "x.pcapng")
				live := finish(t, play(t, script, with(append(how, "-w", file, all)...)...))
				live.want(t, status)
				read := again(t, append(how, file)...)
				read.want(t, status)
				if read.stdout != live.stdout || read.stderr != "" {
					t.Errorf("%s %v:\n got %s%s\nwant %s", script, how, read.stdout, read.stderr, live.stdout)
				}
			}
		}
	}
}

func TestCaptureIsPrivate(t *testing.T) {
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "new"), filepath.Join(dir, "old")
	if err := os.WriteFile(old, bytes.Repeat([]byte("x"), 1<<16), 0o640); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]os.FileMode{fresh: 0o600, old: 0o640} {
		finish(t, play(t, "short delivered", with("-w", file)...)).want(t, 0)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", file, info.Mode(), want)
		}
		again(t, file).want(t, 0)
	}
}

// Under sudo the file is the caller's, who could not open it otherwise.
func TestCaptureUnderSudo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "x")
	cmd := play(t, "short delivered", with("-w", file)...)
	cmd.Env = append(cmd.Env, "SUDO_UID=65534", "SUDO_GID=65533")
	finish(t, cmd).want(t, 0)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 65534 || s.Gid != 65533 || info.Mode() != 0o600 {
		t.Errorf("owner %d:%d, mode %v", s.Uid, s.Gid, info.Mode())
	}
}

// A trace that does not come about leaves no file, and an old one as it was.
func TestNoTraceNoCapture(t *testing.T) {
	dir := t.TempDir()
	fresh, old := filepath.Join(dir, "new"), filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fresh, old} {
		finish(t, play(t, "fail-open", with("-w", file)...)).want(t, 1)
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("a file is left: %v", err)
	}
	if content, err := os.ReadFile(old); err != nil || string(content) != "precious" {
		t.Errorf("old file: %q, %v", content, err)
	}
}

// With -w - the capture is all of standard output, and the story goes to
// standard error.
func TestCaptureToStandardOutput(t *testing.T) {
	live := finish(t, play(t, "short delivered dropped", with("-w", "-")...))
	live.want(t, 2, "tracing ", "return   0 seen")
	cmd := play(t, "", "read", "-")
	cmd.Stdin = strings.NewReader(live.stdout)
	read := finish(t, cmd)
	read.want(t, 2)
	if _, story, _ := strings.Cut(live.stderr, "\n"); story != read.stdout {
		t.Errorf("\n got %s\nwant %s", read.stdout, story)
	}
}

func TestCaptureToNamedPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	live := make(chan result, 1)
	go func() { live <- finish(t, play(t, "short dropped", with("-o", "json", "-w", fifo)...)) }()
	read := again(t, "-o", "json", fifo)
	read.want(t, 2)
	if l := <-live; l.stdout != read.stdout {
		t.Errorf("\n got %s\nwant %s", read.stdout, l.stdout)
	}
}

// endsAlone checks that only the capture ended: one line, the whole story, and
// status 1.
func endsAlone(t *testing.T, r result, story, why string) {
	t.Helper()
	r.want(t, 1, "pathtrace: capture ", why+": the capture ends here, the trace goes on\n")
	if strings.Count(r.stderr, "the capture ends here") != 1 {
		t.Errorf("told more than once:\n%s", r.stderr)
	}
	if !strings.Contains(story, "return   0 seen\n") {
		t.Errorf("the trace did not go on to its end:\n%s", story)
	}
}

func TestCaptureOnFullDevice(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := play(t, "short delivered dropped", with("-w", "-")...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &stderr
	_ = cmd.Run() // its status is looked at
	endsAlone(t, result{stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}, stderr.String(), "no space left on device")
}

// The reader of the capture goes away while packets keep coming.
func TestCaptureReaderGoesAway(t *testing.T) {
	cmd := play(t, "flood", with("-w", "-", "--duration", "1s")...)
	stdout, stderr := begin(t, cmd)
	if _, err := io.ReadFull(stdout, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := stdout.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	endsAlone(t, result{stderr: string(said), code: end(t, cmd)}, string(said), "its reader went away")
}

// On a full disk the file ends with a whole block, and reads as cut off.
func TestCaptureOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a small file system: needs root")
	}
	dir := t.TempDir()
	cmd := play(t, "flood", with("-w", filepath.Join(dir, "x"), "--write-all", "--duration", "500ms")...)
	cmd.Args = append([]string{"sh", "-c", `mount -t tmpfs -o size=64k none ` + dir + ` && "$0" "$@"; echo "status $?"; "$0" read -o json ` + dir + `/x | tail -n 1; stat -c %s ` + dir + "/x", cmd.Path}, cmd.Args[1:]...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = sh
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	r := finish(t, cmd)
	if !strings.Contains(r.stdout, "status 1\n") {
		t.Errorf("status: %s", r.stdout)
	}
	endsAlone(t, result{stderr: r.stderr, code: 1}, r.stdout, "no space left on device")
	if !strings.Contains(r.stderr, "without a summary: the trace was killed, or could not write any further") || !strings.Contains(r.stdout, `{"type":"packet"`) {
		t.Errorf("read again: %s%s", r.stdout, r.stderr)
	}
}

// Killed at any moment, a trace leaves a file that reads to its last packet.
func TestKilledTraceIsReadable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	cmd := play(t, "flood", with("-w", file, "--write-all")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if info, err := os.Stat(file); err == nil && info.Size() > 1<<16 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	r := again(t, file)
	r.want(t, 1, "pathtrace: "+file+": ")
	if !strings.Contains(r.stdout, "the end of this trace is missing: counted is what is there\n") || strings.Contains(r.stdout, "forward  0 seen") {
		t.Errorf("read again:\n%s", r.stdout)
	}
	if j := again(t, "-o", "json", file); j.code != 1 || strings.Contains(j.stdout, `"summary"`) || len(outcomes(t, j.stdout)) == 0 {
		t.Errorf("read as JSON: status %d, %d bytes", j.code, len(j.stdout))
	}
}
