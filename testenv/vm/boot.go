// SPDX-License-Identifier: Apache-2.0

// This file takes one VM from its start to its end: sockets, the two programs,
// the output streams, and the verdict on how it went.

package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shareLimit is how long the program that shares the file tree may take to
// listen.
const shareLimit = 15 * time.Second

// What the VM says on its control port.
type (
	readyEvent struct{ release string }
	exitEvent  struct{ status int }
)

// boot starts one VM, runs the command and ends the VM.
func (h host) boot(ctx context.Context, o Options) (result Result, err error) {
	result.Accel = h.accel.name()
	dir, remove, err := workDir()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	image, err := initramfs(h.kernel, h.busybox, runScript(o))
	if err != nil {
		return result, err
	}
	m := machine{
		accel: h.accel, cpus: o.CPUs, memory: o.Memory,
		kernel:       filepath.Join(h.kernel.Dir, "vmlinuz"),
		initramfs:    filepath.Join(dir, "initramfs"),
		sharedSocket: filepath.Join(dir, "host.sock"),
	}
	if err := os.WriteFile(m.initramfs, image, 0o644); err != nil {
		return result, fmt.Errorf("scratch folder: %w", err)
	}
	share, err := h.startShare(ctx, dir, m.sharedSocket)
	if err != nil {
		return result, err
	}
	defer share.stop()
	s, err := openStreams(dir, o)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	m.console, m.ports = s.console, s.ports
	return h.runMachine(ctx, m, s, result)
}

// startShare starts the program that shares the file tree and waits until it
// listens.
func (h host) startShare(ctx context.Context, dir, socket string) (*process, error) {
	modules := filepath.Join(h.kernel.Dir, "lib/modules", h.kernel.Release)
	cmd, err := shareCommand(filepath.Join(dir, "share"), socket, modules, h.mounts)
	if err != nil {
		return nil, err
	}
	said := &tail{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = said, said
	p, err := startGuarded(cmd)
	if err != nil {
		return nil, err
	}
	deadline := time.After(shareLimit)
	for {
		if _, err := os.Stat(socket); err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("sharing the file tree: %w: %s", p.err, said.lines(3))
		case <-ctx.Done():
			p.stop()
			return nil, context.Cause(ctx)
		case <-deadline:
			p.stop()
			return nil, fmt.Errorf("sharing the file tree: not up after %v: %s", shareLimit, said.lines(3))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// runMachine runs QEMU until the VM has told the command's status, or died, or
// the time is up.
func (h host) runMachine(ctx context.Context, m machine, s *streams, result Result) (Result, error) {
	cmd := exec.Command(qemuProgram, m.arguments()...)
	said := &tail{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = said, said
	start := time.Now()
	p, err := startGuarded(cmd)
	if err != nil {
		return result, err
	}
	defer s.drain()
	defer p.stop()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for {
		select {
		case event := <-s.events:
			if result.note(event, time.Since(start)) {
				return result, nil
			}
			limit.Stop()
		case <-limit.C:
			return result, fmt.Errorf("%w within %v%s", ErrNotReady, readyLimit, s.consoleTail())
		case <-ctx.Done():
			return result, context.Cause(ctx)
		case <-p.done:
			s.drain() // what the VM said last may still be on its way up
			for len(s.events) > 0 {
				if result.note(<-s.events, time.Since(start)) {
					return result, nil
				}
			}
			return result, h.death(result, p, said, s)
		}
	}
}

// note takes in what the VM said; true: the command has ended.
func (r *Result) note(event any, since time.Duration) bool {
	switch event := event.(type) {
	case readyEvent:
		r.Release, r.Ready = event.release, since
	case exitEvent:
		r.ExitCode = event.status
		return true
	}
	return false
}

// death says how a VM ended that did not tell the command's status.
func (h host) death(result Result, p *process, said *tail, s *streams) error {
	what := ErrNotReady
	if result.Release != "" {
		what = errors.New("the VM died while the command ran")
	}
	if p.err != nil {
		return fmt.Errorf("%w: qemu: %w: %s%s", what, p.err, said.lines(2), s.consoleTail())
	}
	return fmt.Errorf("%w%s", what, s.consoleTail())
}

// streams are the VM's serial ports, each a socket that QEMU connects to and a
// goroutine that passes on what comes.
type streams struct {
	console   string
	ports     map[string]string
	events    chan any // readyEvent, then exitEvent
	tail      *tail
	listeners []net.Listener
	readers   sync.WaitGroup
	mu        sync.Mutex
	errs      []error
}

func openStreams(dir string, o Options) (*streams, error) {
	s := &streams{
		console: filepath.Join(dir, "console.sock"),
		ports:   map[string]string{},
		events:  make(chan any, 16),
		tail:    &tail{limit: 32 << 10},
	}
	sinks := map[string]func(io.Reader) error{
		portControl: s.readControl,
		portStdout:  copyTo(o.Stdout),
		portStderr:  copyTo(o.Stderr),
	}
	if o.Out != "" {
		sinks[portOut] = func(r io.Reader) error { return extract(r, o.Out) }
	}
	for name, sink := range sinks {
		s.ports[name] = filepath.Join(dir, name+".sock")
		if err := s.listen(s.ports[name], sink); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if err := s.listen(s.console, copyTo(io.MultiWriter(s.tail, o.Console))); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func copyTo(w io.Writer) func(io.Reader) error {
	return func(r io.Reader) error { _, err := io.Copy(w, r); return err }
}

// listen serves one socket: one connection, read to its end by sink.
func (s *streams) listen(path string, sink func(io.Reader) error) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("socket of the VM: %w", err)
	}
	s.listeners = append(s.listeners, l)
	s.readers.Go(func() {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return // the VM ended before it opened this port
		}
		if err == nil {
			err = sink(conn)
			conn.Close()
		}
		if err != nil {
			s.fail(fmt.Errorf("socket %s of the VM: %w", filepath.Base(path), err))
		}
	})
	return nil
}

func (s *streams) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

// readControl turns the lines of the control port into events.
func (s *streams) readControl(r io.Reader) error {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		switch f := strings.Fields(sc.Text()); {
		case len(f) == 3 && f[0] == "ready":
			s.events <- readyEvent{release: f[1]}
		case len(f) == 2 && f[0] == "exit":
			status, err := strconv.Atoi(f[1])
			if err != nil {
				return fmt.Errorf("exit status %q: %w", f[1], err)
			}
			s.events <- exitEvent{status: status}
		default:
			return fmt.Errorf("the VM sent a line that is not understood: %q", sc.Text())
		}
	}
	return sc.Err()
}

// drain waits until everything QEMU passed on has been read; QEMU is gone.
func (s *streams) drain() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.readers.Wait()
}

// close ends all streams and returns what went wrong on the way.
func (s *streams) close() error {
	s.drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// consoleHeading stands before the console's end in an error.
const consoleHeading = "; its console ended with:"

// fatal finds the console line that tells why a VM ended: the kernel's, or that
// of init.sh.
var fatal = regexp.MustCompile(`(?m)^.*(?:Kernel panic - not syncing|BUG: |Oops: |vm: ).*$`)

func (s *streams) consoleTail() string {
	text := s.tail.lines(12)
	if text == "" {
		return ""
	}
	var why string
	if found := fatal.FindString(s.tail.lines(1000)); found != "" {
		why = ": " + found
	}
	return why + consoleHeading + "\n" + text
}

// extract unpacks a tar file into dir.
func extract(r io.Reader, dir string) error {
	cmd := exec.Command("tar", "-x", "--no-same-owner", "-C", dir, "-f", "-")
	cmd.Stdin = r
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("unpack $VM_OUT: %w", commandError(context.Background(), "tar", err, stderr.String()))
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	limit int // bytes
	mu    sync.Mutex
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - t.limit; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

// lines returns the last n lines that are not empty.
func (t *tail) lines(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []string
	for text := range strings.Lines(string(t.buf)) {
		if text = strings.TrimRight(text, "\r\n\t "); text != "" {
			kept = append(kept, text)
		}
	}
	return strings.Join(kept[max(0, len(kept)-n):], "\n")
}
