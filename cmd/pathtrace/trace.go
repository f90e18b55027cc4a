// SPDX-License-Identifier: Apache-2.0

// trace.go runs one trace: opens it, announces that it is ready, runs the
// command, and ends it when the command, the time, a signal or the reader does.

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/pathtrace/pathtrace/output"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// session is an open trace: package tracer's, or a test's.
type session interface {
	// Start describes it.
	Start() *model.Start
	// Run sends the start object and the packets to sink until ctx is done,
	// settles what is under way and ends with the summary.
	Run(ctx context.Context, sink model.Sink) (*model.Summary, error)
	// Progress counts while Run runs.
	Progress() (packets, died int)
	// Lost counts the events and packets lost so far.
	Lost() uint64
	// Close detaches, which may take seconds.
	Close() error
}

// opener opens a trace: when it returns, nothing is missed. warn and verbose
// take lines for standard error; verbose is nil unless -v was given.
type opener func(ctx context.Context, opt options, warn, verbose func(string)) (session, error)

// statusEvery is how often the status line changes.
const statusEvery = time.Second

// tracing is what one trace needs while it runs.
type tracing struct {
	opt     options
	path    string // of the command
	console *console
	signals *signals
	session session
	prober  *prober // nil: no --probe
	report  reporting
	capture *capture // nil: no --write
}

// trace does all that the command line asks for and gives the exit status.
func trace(opt options, open opener) int {
	t := &tracing{opt: opt, console: newConsole(storyGoes(opt), len(opt.command) == 0 && opt.probe == nil)}
	if err := t.check(); err != nil {
		return complain(err)
	}
	defer t.capture.leave()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	t.signals = watchSignals(stop)
	t.signals.onAbandon(t.console.endStatus)
	var verbose func(string)
	if opt.verbose {
		verbose = t.console.warn
	}
	if opt.probe != nil {
		prober, err := newProber(ctx, opt, t.console.warn)
		if err != nil {
			return complain(err)
		}
		t.prober = prober
	}
	session, err := open(ctx, opt, t.console.warn, verbose)
	if t.signals.received() {
		t.console.warn("stopped before the trace was ready")
		if err == nil {
			t.close(session)
		}
		return exitInterrupted
	}
	if err != nil {
		return complain(err)
	}
	t.session = session
	status, err := t.run(ctx, stop)
	if err != nil {
		status = complain(err)
	}
	t.signals.verdictPrinted(status)
	t.close(session)
	return status
}

// close detaches. What goes wrong then changes no verdict.
func (t *tracing) close(s session) {
	if err := s.Close(); err != nil {
		t.console.warn("detaching: " + err.Error())
	}
}

// check finds what is wrong before anything is attached.
func (t *tracing) check() (err error) {
	if len(t.opt.command) > 0 {
		if t.path, err = findCommand(t.opt.command); err != nil {
			return err
		}
	}
	if err := checkPaths(t.opt); err != nil {
		return err
	}
	if t.report, err = prepareReport(t.opt.report, t.opt.dropsOnly); err != nil {
		return err
	}
	if t.opt.readyFile != "" {
		if err := prepareReady(t.opt.readyFile); err != nil {
			return err
		}
	}
	if t.opt.write != "" {
		t.capture, err = openCapture(t.opt.write, t.console.warn)
	}
	return err
}

// run announces, runs the command and the trace, and gives the exit status.
func (t *tracing) run(ctx context.Context, stop context.CancelFunc) (int, error) {
	if t.opt.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.opt.duration)
		defer cancel()
	}
	if err := t.capture.begin(t.opt, t.session); err != nil {
		return 0, err
	}
	out := &guard{next: t.sink(), stop: stop}
	if t.prober != nil {
		out.probes = t.prober.results
	}
	if err := t.ready(t.session.Start()); err != nil {
		return 0, err
	}
	command, err := t.startCommand(stop)
	if err != nil {
		return 0, err
	}
	endProbe := t.startProbe(ctx, stop)
	endStatus := t.showStatus()
	summary, err := t.session.Run(ctx, t.report.beside(out))
	endStatus()
	endProbe()
	if command != nil {
		t.endCommand(command)
	}
	switch {
	case err != nil:
		return 0, err
	case out.err != nil && !errors.Is(out.err, syscall.EPIPE):
		return 0, fmt.Errorf("%s: %w", t.console.name(), rootCause(out.err))
	case t.report.err() != nil:
		return 0, t.report.err()
	case !t.capture.finish():
		return exitError, nil
	}
	return summary.ExitStatus(), nil
}

// sink builds the output.
func (t *tracing) sink() model.Sink {
	sink := t.opt.format.New(t.console, settings(t.console.out, t.opt.noColor))
	if t.opt.dropsOnly {
		sink = output.DropsOnly(sink)
	}
	if t.capture != nil {
		sink = output.Tee(t.capture, sink) // complete before the summary is seen elsewhere
	}
	return sink
}

// ready announces that nothing is missed from now on.
func (t *tracing) ready(s *model.Start) error {
	flow := s.Src.Given + " -> " + s.Dst.Given
	if s.Proto != "" {
		flow += " " + s.Proto
	}
	if s.Port != 0 {
		flow += fmt.Sprintf(" port %d", s.Port)
	}
	t.console.say(fmt.Sprintf("tracing %s (%d hooks, %s)", flow, s.Hooks, s.Backend))
	if t.opt.readyFile == "" {
		return nil
	}
	return announceReady(t.opt.readyFile)
}

// startCommand runs the command, if there is one; its end ends the trace.
func (t *tracing) startCommand(stop context.CancelFunc) (*reproduction, error) {
	if len(t.opt.command) == 0 {
		return nil, nil
	}
	command, err := startCommand(t.path, t.opt.command)
	if err != nil {
		return nil, err
	}
	t.signals.onAbandon(func() {
		t.console.endStatus()
		command.kill()
	})
	go func() {
		<-command.done
		stop()
	}()
	return command, nil
}

// startProbe sends the probe, if there is one; its end ends the trace. The
// function it returns waits for it.
func (t *tracing) startProbe(ctx context.Context, stop context.CancelFunc) (end func()) {
	if t.prober == nil {
		return func() {}
	}
	t.prober.start(ctx, t.console.say, t.console.warn, stop)
	return func() {
		if err := t.prober.close(); err != nil {
			t.console.warn("probe: " + err.Error())
		}
	}
}

// endCommand stops a command that outlives the trace and reports how it ended,
// unless a signal ended both.
func (t *tracing) endCommand(command *reproduction) {
	if command.running() {
		command.stop()
		if !t.signals.received() {
			t.console.warn(command.name + " was still running when the trace ended: stopped it")
		}
		return
	}
	if how := command.ended(); how != "" && !t.signals.received() {
		t.console.warn(how)
	}
}

// showStatus keeps a status line on a terminal up to date until the function
// it returns is called.
func (t *tracing) showStatus() (end func()) {
	if !t.console.live {
		return func() {}
	}
	began := time.Now()
	tick := time.NewTicker(statusEvery)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-tick.C:
				t.console.status(t.statusLine(time.Since(began)))
			case <-done:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		t.console.endStatus()
	}
}

func (t *tracing) statusLine(since time.Duration) string {
	packets, died := t.session.Progress()
	return strings.Join([]string{
		fmt.Sprintf("tracing %d s", int(since.Seconds())),
		fmt.Sprintf("%d packets", packets),
		fmt.Sprintf("%d died", died),
	}, " · ")
}
