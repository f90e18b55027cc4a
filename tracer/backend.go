// SPDX-License-Identifier: Apache-2.0

// The backends: which programs each has, and how one is loaded and attached.

package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// backend is a way to hook into the kernel, the most exact first.
type backend struct {
	name     string
	spec     func() (*ebpf.CollectionSpec, error)
	plan     []hook
	brackets bool
	evals    bool // it listens to nft's expressions
}

var backends = []backend{
	{name: "fentry", spec: bpf.LoadFentry, plan: append(append([]hook{}, fentryHooks...), tracepointHooks...), evals: true},
	{name: "tracepoint", spec: bpf.LoadTracepoint, plan: append([]hook{percpuHook}, tracepointHooks...), brackets: true},
}

// backendsFor gives the backends to try: the one named, or all for auto and "".
func backendsFor(name string) ([]backend, error) {
	if name == "" || name == "auto" {
		return backends, nil
	}
	for _, b := range backends {
		if b.name == name {
			return []backend{b}, nil
		}
	}
	return nil, fmt.Errorf("backend %q: not one of auto, fentry, tracepoint", name)
}

func (t *Tracer) openBackend(b backend, f bpf.Filter, src, dst endpoint.Endpoint) error {
	spec, err := b.spec()
	if err != nil {
		return fmt.Errorf("committed BPF object: %w", err)
	}
	if t.fns, err = functionNames(spec.Types); err != nil {
		return err
	}
	if err := spec.Variables["cfg"].Set(f); err != nil {
		return fmt.Errorf("set the filter: %w", err)
	}
	reason := uint8(0)
	if args, err := t.kern.TracepointArgs("kfree_skb"); err == nil && len(args) >= 3 {
		reason = 1
	}
	if err := spec.Variables["has_drop_reason"].Set(reason); err != nil {
		return fmt.Errorf("set has_drop_reason: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	if err := sizeOracle(spec, cpus); err != nil {
		return err
	}
	if err := sizeFrames(spec, cpus, t.cfg.SnapLen); err != nil {
		return err
	}
	if b.brackets {
		if err := t.bracketOracle(spec, cpus); err != nil {
			return err
		}
	}
	links := b.brackets && t.kern.HasFunc("bpf_nf_link_attach")
	if b.brackets && !links {
		t.cfg.Verbose("left out netfilter links: " + errNoLinks.Error())
	}
	plan := b.plan
	if b.evals {
		plan = append(evalHooks(t.rules.Fresh()), plan...)
	}
	if t.att, err = newAttachment(t.kern, spec, plan, unattached(links, t.cfg.SnapLen > 0), t.cfg.Verbose, t.stopwatch()); err != nil {
		return err
	}
	var later []hook
	if b.evals {
		later = allEvalHooks()
	}
	t.att.trim(later)
	if t.reader, err = ringbuf.NewReader(t.att.coll.Maps["events"]); err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	if t.ring, err = newRingWait(t.att.coll.Maps["events"]); err != nil {
		return err
	}
	if t.cfg.SnapLen > 0 {
		if err := t.findMemory(); err != nil {
			t.cfg.Verbose("of packets only the linear part can be captured: " + err.Error())
		}
	}
	t.br = newBrackets(links)
	if b.brackets {
		t.placeBrackets(links, src, dst)
	}
	t.rules.peek = t.peek
	t.rules.skipped, t.rules.evals, t.rules.now = nil, b.evals, t.clock.now
	if b.evals {
		t.rules.skipped = t.att.skipped
		t.rules.MarkSkips(t.clock.now())
		t.moreExpressions() // of rules that came while we attached
		t.rules.unseen = t.rules.unseenExpressions(t.att.attached)
	}
	if err := t.limitEntries(src, dst); err != nil {
		return err
	}
	t.pace = newPace(t.cfg.Sample)
	if err := t.setQuota(); err != nil {
		return err
	}
	if err := t.arm(true); err != nil {
		return err
	}
	t.clock = newClock()
	t.rules.wall = t.clock.wall
	t.asm = newAssembler(&world{places: t.where, naming: t, tables: t.br, rules: t.rules, tracks: make(map[uint32]bool)}, t.clock.wall, t.notOurs)
	t.asm.frames = newFrames(t.cfg.SnapLen)
	return nil
}

// unattached are the programs that are loaded besides the plan's.
func unattached(links, bytes bool) []string {
	programs := []string{"sweep", "peek"}
	if links {
		programs = append(programs, bracketPrograms()...)
	}
	if bytes {
		programs = append(programs, "find_memory")
	}
	return programs
}

// placeBrackets puts netfilter links into the node's namespace and into those
// of the two ends, where they are on this node.
func (t *Tracer) placeBrackets(have bool, src, dst endpoint.Endpoint) {
	if !have {
		t.att.missed = append(t.att.missed, missedHook{MissedHook: model.MissedHook{Hook: "netfilter links",
			Why: errNoLinks.Error() + "; without them not seen: netfilter hooks and tables, delivery"}})
		return
	}
	for _, in := range t.bracketPlaces(src, dst) {
		t.bracket(in)
	}
}

// maxBracketed bounds the pods that get links of their own when it is not
// known which of them the flow may reach. Others get theirs when it does.
const maxBracketed = 64

// bracketPlaces are the node and the two ends; where an end is no pod of this
// node, it may be a service: then any pod may turn out to be behind it.
func (t *Tracer) bracketPlaces(src, dst endpoint.Endpoint) []uint32 {
	places := append([]uint32{t.ns.Node().Inode}, src.NetnsInodes...)
	places = append(places, dst.NetnsInodes...)
	if len(src.NetnsInodes) > 0 && len(dst.NetnsInodes) > 0 {
		return places
	}
	members := t.ns.Members()
	if len(members) > maxBracketed {
		t.cfg.Verbose(fmt.Sprintf("netfilter links: in %d of the node's %d namespaces at first, in others once the flow gets there", maxBracketed, len(members)))
		members = members[:maxBracketed]
	}
	return append(places, members...)
}

// bracket places the links of one namespace, and says so if it cannot.
func (t *Tracer) bracket(in uint32) {
	err := t.br.add(t.ns, in, t.att.coll.Programs)
	if err == nil {
		err = t.showTables()
	}
	if err != nil {
		m := model.MissedHook{Hook: "netfilter links in " + t.ns.Place(in), Why: err.Error() + "; without them not seen there: netfilter hooks and tables, delivery"}
		t.att.missed = append(t.att.missed, missedHook{MissedHook: m})
		t.cfg.Verbose("left out " + m.Hook + ": " + m.Why)
	}
}

// showTables tells the kernel half which legacy tables stand behind links.
func (t *Tracer) showTables() error {
	for key, name := range t.br.tables {
		if name == "" {
			if err := t.att.coll.Maps["bracket_tables"].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("bracket_tables: %w", err)
			}
			delete(t.br.tables, key)
			continue
		}
		var table bpf.BracketTable
		for i := range name {
			table.Name[i] = int8(name[i])
		}
		if err := t.att.coll.Maps["bracket_tables"].Put(key, table); err != nil {
			return fmt.Errorf("bracket_tables: %w", err)
		}
		delete(t.br.tables, key)
	}
	return nil
}

// hooks counts what is attached.
func (t *Tracer) hooks() int { return len(t.att.links) + t.br.count() }
