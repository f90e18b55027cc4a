// SPDX-License-Identifier: Apache-2.0

package watch

// This file puts what changed and who did it together.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

const (
	// doerWithin is how long a change waits for its doer. The kernel half tells of
	// him before or right after netlink tells of the change.
	doerWithin = 25 * time.Millisecond
	// deedLate is how much later than its change a deed may be told, and deedFor how
	// long one is kept for a change that we read late: a busy machine may let us
	// wait for seconds.
	deedLate = 20 * time.Millisecond
	deedFor  = 30 * time.Second
	// unknownDoer ends a text where the backend cannot see who did something.
	unknownDoer = "; who did it cannot be seen with this backend"
)

// join gives the events that are complete.
func (w *Watcher) join(now time.Time, deeds []Deed) (events []model.NodeEvent) {
	for i := range deeds {
		d := &deeds[i]
		switch d.Kind {
		case LinkFlags, RouteChanged:
			w.deeds = append(w.deeds, *d)
		case TableReplaced:
			events = append(events, w.tableReplaced(d))
		case SysctlWritten:
			if e, ok := w.sysctlWritten(d); ok {
				events = append(events, e)
			}
		case SignalSent:
			w.signals = append(w.signals, *d)
		case AgentEnded:
			if e, ok := w.agentEnded(d); ok {
				events = append(events, e)
			}
		}
	}
	events = append(events, w.changesWithDoers(now)...)
	events = append(events, w.signalsWithoutEffect(now)...)
	w.deeds = slices.DeleteFunc(w.deeds, func(d Deed) bool { return now.Sub(d.Time) > deedFor })
	events = slices.DeleteFunc(events, func(e model.NodeEvent) bool { return e.By != nil && int(e.By.PID) == os.Getpid() })
	slices.SortStableFunc(events, func(a, b model.NodeEvent) int { return a.Time.Compare(b.Time) })
	return events
}

// changesWithDoers gives the changes whose doer is known, or not to be expected
// any more.
func (w *Watcher) changesWithDoers(now time.Time) (events []model.NodeEvent) {
	var still []*change
	for i, c := range w.waiting {
		d := w.deedOf(w.waiting[i:])
		waits := c.key.kind != 0 && w.sees[c.key.kind] || c.each.name != ""
		if d == nil && waits && now.Sub(c.event.Time) < doerWithin {
			still = append(still, c)
			continue
		}
		read := c.event.Time
		if d != nil {
			c.event.By, c.event.Time, c.event.Precise = &d.By, d.Time, true
		}
		if w.followsLink(c, read) {
			continue
		}
		events = append(events, w.finish(c))
	}
	w.waiting = still
	return events
}

// deedOf takes the deed behind the first of some changes. Those of one key come
// in the order of their deeds, however late we read them; a deed that had no
// effect has no change, so that counting begins at the last.
func (w *Watcher) deedOf(changes []*change) *Deed {
	c, same := changes[0], 0
	if c.key.kind == 0 {
		return nil
	}
	for _, other := range changes {
		if other.key == c.key {
			same++
		}
	}
	var fit []int
	for i := range w.deeds {
		if d := &w.deeds[i]; keyOf(d) == c.key && d.Time.Before(c.event.Time.Add(deedLate)) {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	n := max(0, len(fit)-same)
	found := w.deeds[fit[n]]
	for _, i := range slices.Backward(fit[:n+1]) {
		w.deeds = slices.Delete(w.deeds, i, i+1)
	}
	return &found
}

// followsLink tells what a change of a link brings about by itself: IPv6 tells
// of each route and address that goes with it. read is when it was told.
func (w *Watcher) followsLink(c *change, read time.Time) bool {
	e := &c.event
	at := linkAt{e.Netns, e.IfIndex}
	switch e.What {
	case model.LinkDown, model.LinkUp, model.LinkDeleted, model.LinkAdded:
		w.turned[at] = read
		return false
	case model.RouteAdded, model.RouteDeleted, model.AddressDeleted:
		turned, ok := w.turned[at]
		return ok && e.Prefix.Addr().Is6() && read.Sub(turned).Abs() < followsWithin
	}
	return false
}

// finish words an event.
func (w *Watcher) finish(c *change) model.NodeEvent {
	e := c.event
	e.Text = c.head
	switch {
	case e.By != nil:
		e.Text += " by " + ByWords(e.By)
	case c.key.kind != 0 && !w.sees[c.key.kind]:
		e.Text += unknownDoer
	}
	e.Text += c.tail
	return e
}

// deedEvent begins the event that a deed is by itself.
func (w *Watcher) deedEvent(d *Deed, what, object string) model.NodeEvent {
	by := d.By
	return model.NodeEvent{Type: model.TypeNode, Time: d.Time, Precise: true, What: what, Object: object, Netns: d.Netns, Place: w.place(d.Netns), By: &by}
}

// tableReplaced words the replacement of a legacy table. What it counts are
// entries: rules, heads and policies of chains.
func (w *Watcher) tableReplaced(d *Deed) model.NodeEvent {
	object := strings.TrimSpace("legacy " + d.Family + " " + d.Name)
	e := w.deedEvent(d, model.RulesetChanged, object)
	e.Text = fmt.Sprintf("rules of %s%s replaced by %s: %d entries, %d before", object, w.where(d.Netns), ByWords(e.By), d.After, d.Before)
	return e
}

// sysctlWritten words a write to a sysctl of the network, with the value it has
// now.
func (w *Watcher) sysctlWritten(d *Deed) (model.NodeEvent, bool) {
	path, ok := strings.CutPrefix(d.Name, "net/")
	if !ok {
		return model.NodeEvent{}, false
	}
	value := "a value that could not be read"
	err := w.ns.Do(d.Netns, func() error {
		raw, err := os.ReadFile(filepath.Join("/proc/sys/net", path))
		value = strings.TrimSpace(string(raw))
		return err
	})
	if err != nil {
		w.verbose(fmt.Sprintf("sysctl net/%s: %v", path, err))
	}
	c := w.sysctlChange(message{at: d.Time}, d.Netns, path, value)
	c.event.By, c.event.Precise = &d.By, true
	return w.finish(c), true
}
