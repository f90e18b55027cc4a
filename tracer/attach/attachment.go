// SPDX-License-Identifier: Apache-2.0

// What a trace asks of its kernel half once that is loaded: no other room
// knows the names of its maps, variables and programs.

package attach

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Attachment is the kernel half of a trace: loaded, attached and, once it is
// armed, at work.
type Attachment struct {
	*programs
	cfg       Config
	backend   Backend
	functions map[uint8]string // by enum fn
	ring      *Ring
	brackets  *Brackets
	private   uint32 // offset of xt_table.private, bytes; 0: not asked yet
	counts    bool   // rules_generation counts new legacy tables
	// unreadable: this kernel does not tell where a legacy table has its contents.
	unreadable bool
	shown      map[bpf.EndKey]uint32 // moved_ends of bpf/state.h; nil: the ends are as they were loaded
}

// Ring gives the events.
func (a *Attachment) Ring() *Ring { return a.ring }

// Functions names the functions that events tell of.
func (a *Attachment) Functions() map[uint8]string { return a.functions }

// Tables tells what lies between the brackets.
func (a *Attachment) Tables() *Brackets { return a.brackets }

// Hooks counts what is attached.
func (a *Attachment) Hooks() int { return len(a.links) + a.brackets.count() }

// Missed lists the hooks that could not be had.
func (a *Attachment) Missed() []Missed { return a.missed }

// Miss notes one more of them.
func (a *Attachment) Miss(m Missed) { a.missed = append(a.missed, m) }

// Arm lets the kernel half follow new packets, or not.
func (a *Attachment) Arm(on bool) error {
	var v uint32
	if on {
		v = 1
	}
	if err := a.coll.Variables["armed"].Set(v); err != nil {
		return fmt.Errorf("arm the programs: %w", err)
	}
	return nil
}

// WindowShift gives the window of the quota: 1 << WindowShift ns (WINDOW_SHIFT of
// bpf/track.h).
const WindowShift = 27

// SetQuota says how many new packets are followed in one window (bpf/track.h); 0 all.
func (a *Attachment) SetQuota(packets uint64) error {
	if err := a.coll.Variables["quota"].Set(packets); err != nil {
		return fmt.Errorf("set the quota of packets: %w", err)
	}
	return nil
}

// Counters reads what the kernel half counted.
func (a *Attachment) Counters() (bpf.Counters, error) {
	var c bpf.Counters
	if err := a.coll.Variables["stats"].Get(&c); err != nil {
		return c, fmt.Errorf("read the kernel's counters: %w", err)
	}
	return c, nil
}

// NotOurs keeps the kernel half from following a tuple until a time of its clock.
func (a *Attachment) NotOurs(tuple bpf.Tuple, until uint64) error {
	if err := a.coll.Maps["others"].Put(tuple, until); err != nil {
		return fmt.Errorf("others: %w", err)
	}
	return nil
}

// Look asks the kernel half what the rule sets of the calling thread's network
// namespace are now (bpf/rules_find.h): nft's, and of the legacy table with that
// name and family ("ip", "ip6"): found by its name, else at its address if that is
// known; "" asks for none. The routes are that family's.
func (a *Attachment) Look(family, table string, address uint64) (bpf.Looked, error) {
	var l bpf.Looked
	if table != "" && a.private == 0 && !a.unreadable { // struct xt_table begins with a list head: 0 is no offset of it
		var err error
		if a.private, err = a.cfg.Kernel.FieldOffset("xt_table", "private", "x_tables"); err != nil {
			a.unreadable = true
			a.cfg.Verbose("which version of a legacy table stands is not known: " + err.Error())
		}
	}
	var name [8]byte
	copy(name[:], table)
	pf := uint64(unix.NFPROTO_IPV4)
	if family == "ip6" {
		pf = unix.NFPROTO_IPV6
	}
	args := struct{ A [4]uint64 }{[4]uint64{binary.NativeEndian.Uint64(name[:]), pf, address, uint64(a.private)}}
	if _, err := a.coll.Programs["look"].Run(&ebpf.RunOptions{Context: args}); err != nil {
		return l, fmt.Errorf("look at the rule sets: %w", err)
	}
	if err := a.coll.Variables["seen_now"].Get(&l); err != nil {
		return l, fmt.Errorf("look at the rule sets: %w", err)
	}
	return l, nil
}

// CountsNewTables tells that a generation of legacy tables counts those that were
// made, wherever on the machine.
func (a *Attachment) CountsNewTables() bool { return a.counts }

// CountsReplacements tells that it counts how often a table was replaced.
func (a *Attachment) CountsReplacements() bool { return a.attached("xt_replace_table_in") }

// Skipped counts the programs that the kernel has left out.
func (a *Attachment) Skipped() uint64 { return a.skipped() }

// Listen attaches to more of nft's expressions.
func (a *Attachment) Listen(expressions []string) error { return a.more(evalHooks(expressions)) }

// Unheard lists those of some expressions none of whose functions is attached:
// rules that end with one of them are not seen.
func (a *Attachment) Unheard(expressions []string) []string {
	return unheard(expressions, a.attached)
}

// Arrived attaches what was waiting for a kernel module. It gives the number of
// new hooks.
func (a *Attachment) Arrived(module string) (int, error) {
	n, err := a.arrived(module)
	if err != nil {
		a.Miss(Missed{MissedHook: model.MissedHook{Hook: "module " + module, Why: err.Error()}})
	}
	return n, err
}

// Bracket places netfilter links in a namespace, if this backend has them.
func (a *Attachment) Bracket(in uint32) {
	if a.brackets.use {
		a.bracket(in)
	}
}

// BracketReached places them where the flow got to since it was last asked.
func (a *Attachment) BracketReached() {
	for _, in := range a.brackets.wanted() {
		a.bracket(in)
	}
}

// Places lists the namespaces that something hangs in.
func (a *Attachment) Places() []uint32 { return a.brackets.places() }

// Release lets go of a namespace.
func (a *Attachment) Release(in uint32) error {
	return errors.Join(a.brackets.release(in), a.showTables())
}

// Close takes everything out. It may take seconds.
func (a *Attachment) Close() error {
	var errs []error
	if a.brackets != nil {
		errs = append(errs, a.brackets.Close())
	}
	if a.ring != nil {
		errs = append(errs, a.ring.Close())
	}
	if a.programs != nil {
		errs = append(errs, a.programs.Close())
	}
	return errors.Join(errs...)
}
