// SPDX-License-Identifier: Apache-2.0

// probe.go sends the reproduction of --probe from inside the source pod while
// the trace is on, and says what an application there would have seen.

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/probe"
)

// maxTargets bounds the addresses probed: one after the other, some of them
// waiting for seconds.
const maxTargets = 8

// prober is a probe made ready.
type prober struct {
	ns      *node.Namespaces
	spec    probe.Spec
	from    endpoint.Endpoint
	targets []netip.Addr
	came    []model.Probe // to be read after done
	done    chan struct{} // closed when it ended
}

// newProber resolves the ends of the probe before anything is attached.
func newProber(ctx context.Context, opt options, warn func(string)) (*prober, error) {
	if err := checkPrivileges(); err != nil {
		return nil, err
	}
	ns, err := node.OpenNamespacesAt(opt.names.HostRoot, opt.netns)
	if err != nil {
		return nil, err
	}
	p := &prober{ns: ns, spec: *opt.probe, done: make(chan struct{})}
	if err := p.resolve(ctx, opt, warn); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return p, nil
}

func (p *prober) resolve(ctx context.Context, opt options, warn func(string)) (err error) {
	names := opt.names
	names.Warn = warn
	r := endpoint.NewResolverWith(p.ns, names)
	defer func() { err = errors.Join(err, r.Close()) }()
	if p.from, err = r.Resolve(ctx, opt.src); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	to, err := r.Resolve(ctx, opt.dst)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if p.from.Netns == 0 {
		return fmt.Errorf("--probe is sent from inside the source, and %s is no pod of this node that can be entered: run it where the pod runs, or leave --probe out", p.from.Given)
	}
	p.targets, err = targets(p.from, to)
	return err
}

// targets are the addresses that a client at from would use to reach to.
func targets(from, to endpoint.Endpoint) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, prefix := range to.Prefixes {
		if prefix.IsSingleIP() {
			all = append(all, prefix.Addr())
		}
	}
	if to.Service != nil && len(to.Service.Fronts) > 0 {
		all = slices.Clone(to.Service.Fronts)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--probe needs a destination with an address, and %s has none: name a pod, a service or an address", to.Given)
	}
	speaks := func(a netip.Addr) bool {
		return slices.ContainsFunc(from.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
	}
	if all = slices.DeleteFunc(all, func(a netip.Addr) bool { return !speaks(a) }); len(all) == 0 {
		return nil, fmt.Errorf("--probe: %s and %s have no address of one family", from.Given, to.Given)
	}
	return all[:min(len(all), maxTargets)], nil
}

// start probes one address after the other, says what came of each, and calls
// stop after the last.
func (p *prober) start(ctx context.Context, say, warn func(string), stop func()) {
	go func() {
		defer close(p.done)
		defer stop()
		for _, to := range p.targets {
			sent := time.Now()
			result, err := probe.Run(ctx, p.ns, p.from.Netns, p.spec, to)
			switch {
			case errors.Is(err, context.Canceled):
				warn("the trace ended before the probe did")
				return
			case err != nil:
				warn(err.Error())
				continue
			}
			p.came = append(p.came, p.told(result, sent))
			say(p.line(result))
		}
	}()
}

// line is the application's view of one address.
func (p *prober) line(r probe.Result) string {
	return strings.Join([]string{"probe", p.spec.Proto, p.source(), "->", r.Target() + ":", r.String()}, " ")
}

// source is what people call where it is sent from.
func (p *prober) source() string {
	if p.from.Namespace != "" {
		return p.from.Namespace + "/" + p.from.Name
	}
	return p.from.Given
}

// told is the same for the trace's output.
func (p *prober) told(r probe.Result, sent time.Time) model.Probe {
	o := model.Probe{
		Time: sent, Proto: p.spec.Proto, From: p.source(), Src: r.Src, Dst: r.Dst, DstPort: p.spec.Port,
		Answered: r.Answered, TookMS: float64(r.Took.Microseconds()) / 1000, Text: r.String(),
	}
	var errno unix.Errno
	if errors.As(r.Err, &errno) {
		o.Error = unix.ErrnoName(errno)
	}
	return o
}

// results waits for the probe to end.
func (p *prober) results() []model.Probe {
	<-p.done
	return p.came
}

// close waits for the probe to end and releases the node's namespace.
func (p *prober) close() error {
	<-p.done
	return p.ns.Close()
}
