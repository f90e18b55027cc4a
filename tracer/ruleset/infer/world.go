// SPDX-License-Identifier: Apache-2.0

package infer

// This file answers what rules ask about the node's routes rather than about the
// packet. Each question is one or two read-only look-ups, and is asked again only
// after a short while, since it is asked for every packet. addrtype.go and rpath.go
// hold the questions.

import (
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/recall"
)

const (
	// answerValid is how long an answer serves.
	answerValid = 100 * time.Millisecond
	// keptAnswers bounds the answers that are remembered.
	keptAnswers = 4096
)

// World is what rules ask about a network namespace of the node: packet.World but
// for ipsets, which are asked when a packet met them (tracer/rulebook). It holds
// nothing of the namespace open, and may be used from several goroutines. What the
// namespace (gone, say) or the kernel does not answer is Unknown.
type World struct {
	ns    *node.Namespaces
	netns uint32

	mu      sync.Mutex
	answers *recall.Memory[any]
	trouble error // the last question that failed
	under   uint64
}

// NewWorld asks about the namespace of that inode number. Nothing is asked yet.
func NewWorld(ns *node.Namespaces, netns uint32) *World {
	return &World{ns: ns, netns: netns, answers: newAnswers()}
}

func newAnswers() *recall.Memory[any] {
	until := func(asked, _ time.Time) time.Time { return asked.Add(answerValid) }
	return recall.New[any](recall.Config{Most: keptAnswers, Until: until})
}

// Under forgets what was answered under another name of the routes.
func (w *World) Under(routes uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.under != routes {
		w.under, w.answers = routes, newAnswers()
	}
}

// Trouble is why the last question that failed did; nil: none has.
func (w *World) Trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

// ask answers a question, named by a comparable key, inside the namespace, or
// from memory. Failures are remembered as well.
func ask[T any](w *World, key any, fn func() (T, error)) (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return recall.Ask(w.answers, key, func() (value T, err error) {
		err = w.ns.Do(w.netns, func() (err error) { value, err = fn(); return err })
		if err != nil {
			w.trouble = fmt.Errorf("%s: %w", w.ns.Place(w.netns), err)
		}
		return value, err
	})
}

// device is what matters of an interface.
type device struct {
	index    int
	loopback bool
	routed   bool // a port of a VRF: look-ups for it are made in tables of its own
}

type deviceKey struct{ name string }

// device finds an interface of the namespace by name.
func (w *World) device(name string) (device, error) {
	return ask(w, deviceKey{name}, func() (device, error) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return device{}, fmt.Errorf("interface %s: %w", name, err)
		}
		d := device{index: l.Attrs().Index, loopback: l.Attrs().RawFlags&iffLoopback != 0, routed: l.Type() == "vrf"}
		if l.Attrs().MasterIndex != 0 {
			master, err := netlink.LinkByIndex(l.Attrs().MasterIndex)
			if err != nil {
				return device{}, fmt.Errorf("master of interface %s: %w", name, err)
			}
			d.routed = d.routed || master.Type() == "vrf"
		}
		return d, nil
	})
}

// iffLoopback is IFF_LOOPBACK (include/uapi/linux/if.h).
const iffLoopback = 0x8

type policyKey struct{ family int }

// policy are the policy routing rules of a family.
func (w *World) policy(family int) (policy, error) {
	return ask(w, policyKey{family}, func() (policy, error) { return readPolicy(family) })
}

// route looks a route up.
func (w *World) route(q question) (route, error) {
	return ask(w, q, func() (route, error) { return lookup(q) })
}
