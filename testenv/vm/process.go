// SPDX-License-Identifier: Apache-2.0

// This file starts programs that must not outlive the runner, however it ends.

package vm

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a started program. Done is closed when it has ended; err is its
// result and may be read then.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// startGuarded starts cmd so that the kernel kills it when the runner dies.
// The signal is tied to the thread that started it (prctl(2), PR_SET_PDEATHSIG),
// so that thread is kept for the program's whole life.
func startGuarded(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// stop kills the program and waits until it is gone.
func (p *process) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	// The only error is that it has just ended by itself.
	_ = p.cmd.Process.Kill()
	<-p.done
}
