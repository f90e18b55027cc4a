// SPDX-License-Identifier: Apache-2.0

// A tool's process: started, ready, stopped, and what that took.

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pathtrace/pathtrace/testenv/proc"
)

// Life is what one process took.
type Life struct {
	Ready   time.Duration `json:"ready_ns"`   // from its start until it was ready
	Attach  time.Duration `json:"attach_ns"`  // pathtrace's own word on its part of that
	Calm    time.Duration `json:"calm_ns"`    // from then until it took next to no CPU; it is measured from there
	Verdict time.Duration `json:"verdict_ns"` // from SIGINT until the summary was printed
	Exit    time.Duration `json:"exit_ns"`    // from SIGINT until the process was gone
	Peak    int64         `json:"peak_bytes"` // resident memory at its highest
	// Resident is the same when it was told to stop: what a long trace settles at.
	Resident int64         `json:"resident_bytes"`
	CPU      time.Duration `json:"cpu_ns"` // user and system time
	Hooks    int           `json:"hooks"`
}

// processSpec says what to start.
type processSpec struct {
	name      string
	bin       string
	args      []string
	netns     string            // path of the network namespace to start it in; "": ours
	readyFile string            // ready when this file is there, or
	readyLine string            // when a line with this in it was written
	line      func(line []byte) // gets standard output, line by line; nil: it is thrown away
	statuses  []int             // exit statuses that are no failure, besides 0
}

// process is a tool's process.
type process struct {
	spec    processSpec
	cmd     *exec.Cmd
	began   time.Time
	ready   time.Duration
	asked   time.Time     // when it was interrupted
	gone    chan struct{} // closed when it has ended and all it wrote was read
	ended   time.Time     // to be read after gone, as is err
	err     error
	stderr  tail
	saw     chan struct{} // closed when the ready line came
	readers sync.WaitGroup
}

// readyWithin bounds the wait for a tool: under emulation loading takes long.
const readyWithin = 120 * time.Second

// stopWithin bounds the wait for a tool's end.
const stopWithin = 60 * time.Second

// startProcess starts a process and waits until it is ready.
func startProcess(ctx context.Context, spec processSpec) (*process, error) {
	p := &process{spec: spec, cmd: exec.CommandContext(ctx, spec.bin, spec.args...), gone: make(chan struct{}), saw: make(chan struct{})}
	// The process dies with the thread that started it: that thread waits.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	where := place{cpu: anyCPU}
	if spec.netns != "" {
		var err error
		if where.netns, err = os.Open(spec.netns); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.name, err)
		}
		defer where.netns.Close()
	}
	written, err := p.connect()
	if err == nil {
		started := make(chan error, 1)
		go p.live(where, started)
		err = <-started
	}
	for _, f := range written {
		f.Close() // the process has its own
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	if err := p.awaitReady(ctx); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// connect reads what the process will write. It gives the files it writes to.
func (p *process) connect() (written []*os.File, err error) {
	line := p.spec.line
	if line == nil {
		line = func([]byte) {}
	}
	var once sync.Once
	for _, stream := range []struct {
		to   *io.Writer
		line func([]byte)
	}{{&p.cmd.Stdout, line}, {&p.cmd.Stderr, p.stderr.add}} {
		r, w, err := os.Pipe()
		if err != nil {
			return written, err
		}
		*stream.to = w
		written = append(written, w)
		p.readers.Go(func() {
			defer r.Close()
			readLines(r, func(text []byte) {
				if p.spec.readyLine != "" && bytes.Contains(text, []byte(p.spec.readyLine)) {
					once.Do(func() { close(p.saw) })
				}
				stream.line(text)
			})
		})
	}
	return written, nil
}

// readLines hands lines on until the stream ends; a longer one than the buffer
// comes in pieces, which is no harm to a reader that looks for short ones.
func readLines(r io.Reader, line func([]byte)) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		text, err := in.ReadSlice('\n')
		if len(text) > 0 {
			line(text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // the process closed it: how it ended is Wait's to tell
		}
	}
}

// live is the process's whole life, on a thread of its own. What goes wrong is
// told by started and p.err.
func (p *process) live(where place, started chan<- error) {
	defer close(p.gone)
	err := onThread(where, func() error {
		p.began = time.Now()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return nil
		}
		err = p.cmd.Wait()
		p.ended = time.Now()
		p.readers.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) && slices.Contains(p.spec.statuses, exit.ExitCode()) {
			err = nil
		}
		p.err = err
		return nil
	})
	if err != nil {
		started <- err // the thread came nowhere near starting it
	}
}

func (p *process) awaitReady(ctx context.Context) error {
	for deadline := p.began.Add(readyWithin); time.Now().Before(deadline); {
		if p.isReady() {
			p.ready = time.Since(p.began)
			return nil
		}
		select {
		case <-p.gone:
			return &RefusedError{p.spec.name, fmt.Sprint(p.cmd.ProcessState), p.stderr.String()}
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s was not ready after %v: %s", p.spec.name, readyWithin, p.stderr.String())
}

// RefusedError is a tool's that ended by itself before it was ready: this
// machine does not let it work, or its arguments are wrong.
type RefusedError struct{ Tool, Status, Said string }

// Error gives the tool's own words.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s ended before it was ready (%s): %s", e.Tool, e.Status, e.Said)
}

func (p *process) isReady() bool {
	if p.spec.readyFile != "" {
		_, err := os.Stat(p.spec.readyFile)
		return err == nil
	}
	select {
	case <-p.saw:
		return true
	default:
		return false
	}
}

// PID is the process's.
func (p *process) PID() int { return p.cmd.Process.Pid }

// Stop interrupts the process and waits for its end.
func (p *process) Stop() (Life, error) {
	peak, resident, err := proc.Memory(p.PID())
	if err != nil {
		p.kill()
		return Life{}, fmt.Errorf("%s had ended by itself: %w: %s", p.spec.name, err, p.stderr.String())
	}
	p.asked = time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.kill()
		return Life{}, fmt.Errorf("interrupt %s: %w", p.spec.name, err)
	}
	select {
	case <-p.gone:
	case <-time.After(stopWithin):
		p.kill()
		return Life{}, fmt.Errorf("%s was still there %v after SIGINT: killed it", p.spec.name, stopWithin)
	}
	if p.err != nil {
		return Life{}, fmt.Errorf("%s: %w: %s", p.spec.name, p.err, p.stderr.String())
	}
	return Life{Ready: p.ready, Exit: p.ended.Sub(p.asked), Peak: peak, Resident: resident,
		CPU: p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()}, nil
}

// kill ends the process at once and waits for that.
func (p *process) kill() {
	// it may have ended by itself, which is as good
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// tail keeps the last lines of a stream.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 5

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines = append(t.lines, strings.TrimSpace(string(line))); len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// String joins them into one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "; ")
}
