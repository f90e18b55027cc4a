// SPDX-License-Identifier: Apache-2.0

// command.go runs the command that reproduces the problem while the trace is
// on. Its output goes to our standard error, so that standard output holds the
// trace alone; it stays in our process group, so that Ctrl-C reaches it too.

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// graceTime is how long a command may take to end after it was asked to.
const graceTime = 2 * time.Second

// reproduction is a command under way.
type reproduction struct {
	name    string
	process *os.Process
	done    chan struct{} // closed when it ended
	err     error         // how it ended; to be read after done
}

// findCommand looks a command up before anything is attached. An error says
// which word was not found.
func findCommand(argv []string) (path string, err error) {
	path, err = exec.LookPath(argv[0])
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("command %q is not found in PATH: check its name, or give its path", argv[0])
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("command %q does not exist: check its path", argv[0])
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EISDIR):
		return "", fmt.Errorf("command %q is not an executable file: chmod +x it, or name its interpreter before it", argv[0])
	case errors.Is(err, exec.ErrDot):
		return "", fmt.Errorf("command %q would be run from the current directory: write ./%s if that is meant", argv[0], argv[0])
	}
	return "", fmt.Errorf("command %q: %w", argv[0], errors.Unwrap(err))
}

// startCommand runs argv from path. The command gets SIGTERM should this
// process die without stopping it.
func startCommand(path string, argv []string) (*reproduction, error) {
	cmd := &exec.Cmd{
		Path: path, Args: argv, Stdin: os.Stdin, Stdout: os.Stderr, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	}
	r := &reproduction{name: argv[0], done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that forked ends, so keep it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		r.process = cmd.Process
		started <- err
		if err == nil {
			r.err = cmd.Wait()
			close(r.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("command %q cannot be started: %w", argv[0], rootCause(err))
	}
	return r, nil
}

// rootCause drops the path that os repeats in front of an errno.
func rootCause(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// ended says how the command ended if that was not well, else "".
func (r *reproduction) ended() string {
	var exit *exec.ExitError
	switch {
	case r.err == nil:
		return ""
	case !errors.As(r.err, &exit):
		return fmt.Sprintf("%s: %v", r.name, r.err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("%s was ended by signal %d (%s)", r.name, status.Signal(), status.Signal())
	}
	return fmt.Sprintf("%s ended with exit status %d", r.name, exit.ExitCode())
}

// running tells whether it has not ended yet.
func (r *reproduction) running() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// stop ends the command if it is still running: first asking, then forcing.
func (r *reproduction) stop() {
	if !r.running() {
		return
	}
	// A failure means that it ended just now; Wait reports it.
	_ = r.process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
		return
	case <-time.After(graceTime):
	}
	r.kill()
	<-r.done
}

// kill ends the command at once, without waiting for it.
func (r *reproduction) kill() { _ = r.process.Kill() }
