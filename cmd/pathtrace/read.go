// SPDX-License-Identifier: Apache-2.0

// read.go is the subcommand that prints a saved trace again. It needs neither
// root nor the node: all of the trace is in the file that --write wrote.

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/output"
	"github.com/pathtrace/pathtrace/output/pcapng"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// parseRead understands the arguments after read: the file, and those flags of a
// trace that say how to print.
func parseRead(args []string) (options, error) {
	r := newRaw()
	if err := r.set.Parse(args); err != nil {
		return options{}, flagError(r.set, err)
	}
	if r.wantHelp {
		return options{action: showHelp}, nil
	}
	allowed := map[string]bool{"output": true, "drops-only": true, "no-color": true, "report": true}
	var err error
	r.set.Visit(func(f *pflag.Flag) {
		if !allowed[f.Name] && err == nil {
			err = fmt.Errorf("--%s is for a trace: read shows what is in the file", f.Name)
		}
	})
	if err != nil {
		return options{}, err
	}
	switch files := r.set.Args(); {
	case len(files) == 0 || files[0] == "":
		return options{}, errors.New("no file to read: give one that --write wrote, or - for standard input")
	case len(files) > 1:
		return options{}, fmt.Errorf("unexpected argument %q: read takes one file", files[1])
	default:
		opt := options{action: doRead, file: files[0], dropsOnly: r.dropsOnly, noColor: r.noColor, report: r.report.value}
		if err := r.empty(&opt); err != nil {
			return options{}, err
		}
		return opt, r.choices(&opt)
	}
}

// read prints the trace in a file and gives the exit status, which is the
// trace's own.
func read(opt options) int {
	file := os.Stdin
	name := "standard input"
	if opt.file != stdStream {
		var err error
		if file, err = os.Open(opt.file); err != nil {
			return complain(fmt.Errorf("%s: %w: give a file that --write wrote", opt.file, rootCause(err)))
		}
		defer file.Close()
		name = opt.file
	} else if isTerminal(file) {
		return complain(errors.New("read - reads standard input, and that is a terminal: send it a capture, as in ssh NODE pathtrace ... -w - | pathtrace read -"))
	}
	watchSignals(func() { os.Exit(exitInterrupted) })
	printer := opt.format.New(os.Stdout, settings(os.Stdout, opt.noColor))
	out := &guard{next: printer, stop: func() {}}
	if opt.dropsOnly {
		out.next = output.DropsOnly(printer)
	}
	page, err := prepareReport(opt.report, opt.dropsOnly)
	if err != nil {
		return complain(err)
	}
	seen := &tally{Sink: page.beside(out)}
	err = pcapng.Read(file, seen)
	if cut, ok := printer.(cutter); ok && out.err == nil && seen.started && isCutOff(err) {
		out.err = cut.CutOff(seen.forward, seen.back)
	}
	switch {
	case err != nil:
		return complain(fmt.Errorf("%s: %w", name, rootCause(err)))
	case out.err != nil && !errors.Is(out.err, syscall.EPIPE):
		return complain(fmt.Errorf("standard output: %w", rootCause(out.err)))
	}
	if page.err() != nil {
		return complain(page.err())
	}
	return seen.summary.ExitStatus()
}

// cutter is an output that holds back what repeats, and so has to be told when
// no summary will come. (In JSON it is its absence that tells.)
type cutter interface {
	CutOff(forward, back model.Counts) error
}

func isCutOff(err error) bool {
	var cut *pcapng.CutOffError
	return errors.As(err, &cut)
}

// tally counts the packets that pass, and keeps the summary.
type tally struct {
	model.Sink
	started       bool
	forward, back model.Counts
	summary       model.Summary
}

func (t *tally) Start(s *model.Start) error {
	t.started = true
	return t.Sink.Start(s)
}

func (t *tally) Packet(p *model.Packet) error {
	if p.Direction == model.Return {
		t.back.Take(p)
	} else {
		t.forward.Take(p)
	}
	return t.Sink.Packet(p)
}

func (t *tally) Summary(s *model.Summary) error {
	t.summary = *s
	return t.Sink.Summary(s)
}
