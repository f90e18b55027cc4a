// SPDX-License-Identifier: Apache-2.0

// One program: started so that it cannot outlive this process, waited for, and
// stopped by its own process id.

package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// errPortTaken: another process has the port.
var errPortTaken = errors.New("port taken")

// process is a started program.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how; to be read then
}

// startProcess starts a program that writes to a log. The kernel kills it when
// the thread that started it ends (prctl(2), PR_SET_PDEATHSIG), so that thread is
// kept for as long.
func startProcess(log, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the program has its own copy
	p := &process{cmd: exec.Command(program, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, filepath.Dir(log)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// await waits until the program answers.
func (p *process) await(ctx context.Context, answers func() error) error {
	limit := time.After(readyLimit)
	for {
		err := answers()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return p.failed(fmt.Errorf("ended: %w", p.err))
		case <-limit:
			return p.failed(fmt.Errorf("not ready after %v: %w", readyLimit, err))
		}
	}
}

// failed adds to an error what the program wrote last.
func (p *process) failed(err error) error {
	text, readErr := os.ReadFile(p.log)
	if bytes.Contains(text, []byte("address already in use")) {
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	}
	const most = 2000
	return errors.Join(fmt.Errorf("%s: %w: it wrote: %s", filepath.Base(p.cmd.Path), err, text[max(0, len(text)-most):]), readErr)
}

// pause stops the program from running until resume is called.
func (p *process) pause() (resume func() error, err error) {
	return func() error { return p.cmd.Process.Signal(syscall.SIGCONT) }, p.cmd.Process.Signal(syscall.SIGSTOP)
}

// stop ends the program: asked first, then not. Of one that was never started, or
// has ended, there is nothing to stop.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", filepath.Base(p.cmd.Path), err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(stopLimit):
		}
	}
	return fmt.Errorf("%s does not end", filepath.Base(p.cmd.Path))
}
