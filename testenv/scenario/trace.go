// SPDX-License-Identifier: Apache-2.0

// Package scenario runs the built pathtrace on the broken and healthy nodes of
// testenv, as a user would, and checks what it says: with the tracepoint
// backend natively, with fentry in VMs.
package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Trace is a pathtrace process that writes JSON Lines.
type Trace struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{} // closed when the summary was read or output ended
	exited chan error

	mu       sync.Mutex
	lines    bytes.Buffer // all of the output
	packets  []model.Packet
	findings []model.Finding
	live     []model.Finding
	nodes    []model.NodeEvent
	start    *model.Start
	summary  *model.Summary
	readErr  error
}

// ReadyWithin bounds the wait for a trace to be ready: loading takes seconds
// under emulation.
const ReadyWithin = 4 * time.Minute

// StartTrace starts bin with args (ends, --netns, ...) and waits until it is
// ready: nothing is missed from then on.
func StartTrace(ctx context.Context, bin string, args ...string) (*Trace, error) {
	dir, err := os.MkdirTemp("", "pathtrace-ready-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ready := filepath.Join(dir, "ready")
	t := &Trace{done: make(chan struct{}), exited: make(chan error, 1)}
	t.cmd = exec.CommandContext(ctx, bin, append([]string{"-o", "json", "--ready-file", ready}, args...)...)
	t.cmd.Stderr = &t.stderr
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	go t.read(out)
	if err := t.awaitReady(ctx, ready); err != nil {
		return nil, errors.Join(err, t.cmd.Process.Kill())
	}
	return t, nil
}

func (t *Trace) awaitReady(ctx context.Context, file string) error {
	deadline := time.Now().Add(ReadyWithin)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case err := <-t.exited:
			return fmt.Errorf("pathtrace ended before it was ready: %v: %s", err, strings.TrimSpace(t.stderr.String()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("pathtrace not ready after %v", ReadyWithin)
}

// read takes objects until the output ends.
func (t *Trace) read(out io.Reader) {
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<24)
	closed := false
	for sc.Scan() {
		if err := t.take(sc.Bytes()); err != nil {
			t.mu.Lock()
			t.readErr = err
			t.mu.Unlock()
		}
		if t.Summary() != nil && !closed {
			closed = true
			close(t.done)
		}
	}
	if !closed {
		close(t.done)
	}
	t.exited <- t.cmd.Wait()
}

func (t *Trace) take(line []byte) error {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return fmt.Errorf("output line %q: %w", line, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines.Write(line)
	t.lines.WriteByte('\n')
	switch kind.Type {
	case "node":
		var n model.NodeEvent
		if err := json.Unmarshal(line, &n); err != nil {
			return err
		}
		t.nodes = append(t.nodes, n)
	case "start":
		t.start = new(model.Start)
		return json.Unmarshal(line, t.start)
	case "packet":
		var p model.Packet
		if err := json.Unmarshal(line, &p); err != nil {
			return err
		}
		t.packets = append(t.packets, p)
	case "finding":
		var f model.Finding
		if err := json.Unmarshal(line, &f); err != nil {
			return err
		}
		if f.Live {
			t.live = append(t.live, f)
		} else {
			t.findings = append(t.findings, f)
		}
	case "summary":
		t.summary = new(model.Summary)
		return json.Unmarshal(line, t.summary)
	}
	return nil
}

// Lines gives what was told so far as it was printed.
func (t *Trace) Lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines.String()
}

// Start gives what the trace said when it was ready, nil before.
func (t *Trace) Start() *model.Start {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.start
}

// Packets gives the packets told so far.
func (t *Trace) Packets() []model.Packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]model.Packet(nil), t.packets...)
}

// Findings gives the findings that the trace closed with.
func (t *Trace) Findings() []model.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]model.Finding(nil), t.findings...)
}

// Live gives the findings that were told so far while the trace goes on.
func (t *Trace) Live() []model.Finding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]model.Finding(nil), t.live...)
}

// NodeEvents gives the changes of the node told so far.
func (t *Trace) NodeEvents() []model.NodeEvent {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]model.NodeEvent(nil), t.nodes...)
}

// Summary gives the summary, nil before it was told.
func (t *Trace) Summary() *model.Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.summary
}

// Stop interrupts the trace and gives its summary. It does not wait for the
// process to have detached: Wait does.
func (t *Trace) Stop() (*model.Summary, error) {
	if err := t.cmd.Process.Signal(os.Interrupt); err != nil {
		return nil, fmt.Errorf("interrupt pathtrace: %w: %s", err, t.stderr.String())
	}
	select {
	case <-t.done:
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("pathtrace printed no summary within 30 s of SIGINT")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readErr != nil {
		return nil, t.readErr
	}
	if t.summary == nil {
		return nil, fmt.Errorf("pathtrace ended without a summary: %s", strings.TrimSpace(t.stderr.String()))
	}
	return t.summary, nil
}

// Kill ends the process at once.
func (t *Trace) Kill() {
	// it may have ended by itself, which is as good
	_ = t.cmd.Process.Kill()
}

// Wait waits for the process to end and gives its exit status.
func (t *Trace) Wait() (int, error) {
	err := <-t.exited
	t.exited <- err
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return -1, err
	}
	return 0, nil
}
