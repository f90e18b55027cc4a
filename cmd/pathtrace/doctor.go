// SPDX-License-Identifier: Apache-2.0

// doctor.go is the subcommand that says what this node lets us see. What it
// finds is package doctor's business; here are its flags, the capabilities and
// the backends, which are tried by loading and attaching them once.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pathtrace/pathtrace/cmd/pathtrace/doctor"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// parseDoctor understands the arguments after doctor: those flags of a trace
// that say which node and how to print.
func parseDoctor(args []string) (options, error) {
	r := newRaw()
	if err := r.set.Parse(args); err != nil {
		return options{}, flagError(r.set, err)
	}
	if r.wantHelp {
		return options{action: showHelp}, nil
	}
	if rest := r.set.Args(); len(rest) > 0 {
		return options{}, fmt.Errorf("unexpected argument %q: doctor looks at the whole node", rest[0])
	}
	for _, name := range []string{
		"src", "dst", "port", "proto", "duration", "packets", "sample", "drops-only", "backend", "ready-file", "report", "probe", "write", "write-all", "snaplen",
	} {
		if r.set.Changed(name) {
			return options{}, fmt.Errorf("--%s is for a trace: doctor looks at the whole node", name)
		}
	}
	opt := options{action: doDoctor, netns: r.netns.value, verbose: r.verbose}
	for _, check := range []func(*options) error{r.empty, r.choices, r.sources} {
		if err := check(&opt); err != nil {
			return options{}, err
		}
	}
	if opt.format.Name == "wide" {
		return options{}, errors.New("doctor prints text or json: use -o json for everything")
	}
	return opt, nil
}

// diagnose looks, prints, and gives the exit status: 0 when a trace can be
// made here.
func diagnose(opt options, open opener) int {
	if err := checkPaths(opt); err != nil {
		return complain(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := examine(ctx, opt, open)
	if ctx.Err() != nil {
		return exitInterrupted
	}
	print := report.WriteText
	if opt.format.Name == "json" {
		print = report.WriteJSON
	}
	if err := print(os.Stdout); err != nil {
		return complain(fmt.Errorf("standard output: %w", rootCause(err)))
	}
	if !report.Healthy() {
		return exitError
	}
	return exitOK
}

// examine gathers the report.
func examine(ctx context.Context, opt options, open opener) *doctor.Report {
	var problems []string
	note := func(err error) {
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	held, err := effectiveCapabilities()
	note(err)
	names := opt.names
	names.Warn = func(line string) { problems = append(problems, line) }
	ns, err := node.OpenNamespacesAt(opt.names.HostRoot, opt.netns)
	note(err)
	var resolver *endpoint.Resolver
	if err == nil {
		resolver = endpoint.NewResolverWith(ns, names)
	}
	report := doctor.Collect(ctx, version(), ns, resolver)
	report.Capabilities = capabilityChecks(held)
	for _, backend := range backends()[1:] { // the first is auto
		report.Backends = append(report.Backends, tryBackend(ctx, opt, backend, open))
	}
	if ns != nil {
		note(resolver.Close())
		note(ns.Close())
	}
	report.Problems = append(report.Problems, problems...)
	return report
}

// capabilityChecks says which of the needed capabilities this process has.
func capabilityChecks(held uint64) []doctor.Check {
	checks := make([]doctor.Check, 0, len(neededCapabilities))
	for _, c := range neededCapabilities {
		check := doctor.Check{Name: c.name, OK: held&(1<<c.bit) != 0}
		if !check.OK {
			check.Why = "run with sudo, or as a privileged container"
		}
		checks = append(checks, check)
	}
	return checks
}

// noTraffic is a network that no packet is from or to (RFC 5737, TEST-NET-3):
// the trace by which a backend is tried sees nothing and costs nothing.
const noTraffic = "203.0.113.0/24"

// tryBackend opens a trace with one backend and ends it at once.
func tryBackend(ctx context.Context, opt options, backend string, open opener) doctor.Backend {
	b := doctor.Backend{Name: backend}
	if err := checkPrivileges(); err != nil {
		b.Why = err.Error()
		return b
	}
	session, err := open(ctx, options{src: noTraffic, dst: "any", backend: backend, netns: opt.netns, names: opt.names}, func(string) {}, nil)
	if err != nil {
		b.Why = strings.TrimPrefix(oneLine(err.Error()), "backend "+backend+": ")
		return b
	}
	start := session.Start()
	b.OK, b.Hooks, b.AttachMS = true, start.Hooks, start.AttachMS
	ended, cancel := context.WithCancel(ctx)
	cancel() // what was missed is told at the end of a trace
	summary, err := session.Run(ended, ignore{})
	if err = errors.Join(err, session.Close()); err != nil {
		b.OK, b.Why = false, oneLine(err.Error())
		return b
	}
	for _, m := range summary.MissedHooks {
		b.Missed = append(b.Missed, doctor.Missed{Hook: m.Hook, Why: m.Why})
	}
	return b
}

// ignore is a sink that takes nothing in.
type ignore struct{}

func (ignore) Start(*model.Start) error     { return nil }
func (ignore) Packet(*model.Packet) error   { return nil }
func (ignore) Node(*model.NodeEvent) error  { return nil }
func (ignore) Finding(*model.Finding) error { return nil }
func (ignore) Summary(*model.Summary) error { return nil }
