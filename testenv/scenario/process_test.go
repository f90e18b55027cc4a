// SPDX-License-Identifier: Apache-2.0

// A pathtrace run as a stranger would run it: what counts is what it wrote to
// its two streams, its exit status, and when it ended. (Trace, in trace.go,
// is for tests that follow a trace while it runs.)

package scenario

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// process is one run. Its streams go to files, so that it never waits for us.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr string        // files
	ready          string        // --ready-file, if given
	exited         chan struct{} // closed when it has ended
	at             time.Time     // when it ended; to be read after exited
}

// launch starts cmd, whose streams are still free.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{cmd: cmd, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"), exited: make(chan struct{})}
	for file, to := range map[string]func(*os.File){
		p.stdout: func(f *os.File) { cmd.Stdout = f }, p.stderr: func(f *os.File) { cmd.Stderr = f },
	} {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		to(f)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		// how it ended is in ProcessState: an exit status is what tests ask for
		_ = cmd.Wait()
		p.at = time.Now()
		close(p.exited)
	}()
	t.Cleanup(func() {
		if p.running() {
			_ = cmd.Process.Kill() // an error means that it ended just now
			<-p.exited
		}
	})
	return p
}

// launchTrace starts a JSON trace of src -> dst on node1 and waits until it is
// ready.
func launchTrace(t *testing.T, p plan, e *cluster.Env, src, dst string, args ...string) *process {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	all := append([]string{"-o", "json", "--ready-file", ready, "--backend", p.backend, "--netns", e.Node(1).Netns.Path, "--src", src, "--dst", dst}, args...)
	tr := launch(t, exec.CommandContext(t.Context(), p.bin, all...))
	tr.ready = ready
	tr.awaitReady(t)
	return tr
}

// awaitReady looks often: tests send the moment the file is there.
func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(ReadyWithin); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(p.ready); err == nil {
			return
		}
		if !p.running() {
			t.Fatalf("pathtrace ended with status %d before it was ready: %s", p.status(), p.errors(t))
		}
	}
	t.Fatalf("pathtrace not ready after %v", ReadyWithin)
}

// readySince is when the ready file came to be.
func (p *process) readySince(t *testing.T) time.Time {
	t.Helper()
	info, err := os.Stat(p.ready)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v to pathtrace: %v; it wrote: %s", s, err, p.errors(t))
	}
}

// wait waits for the end and gives the exit status.
func (p *process) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.status()
	case <-time.After(within):
		t.Fatalf("pathtrace still runs after %v; it wrote: %s", within, p.errors(t))
		return -1
	}
}

// status is the exit status of a process that has ended, -1 if by a signal.
func (p *process) status() int { return p.cmd.ProcessState.ExitCode() }

// errors is what it wrote to standard error so far.
func (p *process) errors(t *testing.T) string { return readFile(t, p.stderr) }

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// told is a JSON trace as far as it was written.
type told struct {
	packets []model.Packet
	summary *model.Summary
}

// told reads standard output. A line not ended yet is left out.
func (p *process) told(t *testing.T) told {
	t.Helper()
	var all told
	for line := range strings.Lines(readFile(t, p.stdout)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var err error
		switch kindOf(t, line) {
		case model.TypePacket:
			var pk model.Packet
			err = json.Unmarshal([]byte(line), &pk)
			all.packets = append(all.packets, pk)
		case model.TypeSummary:
			err = json.Unmarshal([]byte(line), &all.summary)
		}
		if err != nil {
			t.Fatalf("output line %q: %v", line, err)
		}
	}
	return all
}

func kindOf(t *testing.T, line string) string {
	t.Helper()
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal([]byte(line), &kind); err != nil {
		t.Fatalf("output line %q: %v", line, err)
	}
	return kind.Type
}

// verdict waits until the summary is told and gives everything told.
func (p *process) verdict(t *testing.T, within time.Duration) told {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		ended := !p.running() // before reading: what it wrote last counts
		all := p.told(t)
		switch {
		case all.summary != nil:
			return all
		case ended:
			t.Fatalf("pathtrace ended with status %d and told no summary: %s", p.status(), p.errors(t))
		case time.Now().After(deadline):
			t.Fatalf("no summary within %v: %s", within, p.errors(t))
		}
	}
}

// of gives the packets of one direction.
func (a told) of(d model.Direction) (out []model.Packet) {
	for _, p := range a.packets {
		if p.Direction == d {
			out = append(out, p)
		}
	}
	return out
}

// slow tells that the kernel is emulated, where everything takes its time.
func (p plan) slow() bool { return p.backend == "fentry" }

// pick gives natively or slow, whichever this run is.
func pick[T any](p plan, natively, slow T) T {
	if p.slow() {
		return slow
	}
	return natively
}

// detach bounds how long a trace takes to go once it has told its summary:
// before 7.x the kernel takes seconds to let go of fentry programs.
func (p plan) detach() time.Duration { return pick(p, 15*time.Second, 60*time.Second) }

// oneOfEachKind picks a dataplane of every kind of node that the plan covers,
// by preference those given.
func (p plan) oneOfEachKind(prefer ...cluster.Dataplane) (out []cluster.Dataplane) {
	have := map[cluster.Kind]bool{}
	for _, d := range append(prefer, p.dataplanes...) {
		if !have[d.Kind()] && slices.Contains(p.dataplanes, d) {
			have[d.Kind()] = true
			out = append(out, d)
		}
	}
	return out
}

// inBackground sends t again and again until the function it returns is called.
// What becomes of the packets is not its business; that they can be sent is.
func inBackground(t *testing.T, e *cluster.Env, tr traffic.Spec) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := traffic.Send(ctx, e, tr); err != nil {
				if ctx.Err() != nil {
					err = nil
				}
				done <- err
				return
			}
		}
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("background traffic: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}
