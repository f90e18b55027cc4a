// SPDX-License-Identifier: Apache-2.0

package cause

// This file asks the running node what ipsets hold.

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/ipset"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// setEntry is an element of the sets that kube-proxy's ipvs mode and policies write: of
// hash:ip,port with one address, of hash:ip,port,ip with two, of bitmap:port with none, of
// hash:ip and hash:net without a protocol.
type setEntry struct {
	addr, second netip.Addr
	proto        string
	port         uint16
}

// String is the element as `ipset test` wants it: "10.96.0.20,tcp:80".
func (e setEntry) String() string {
	var parts []string
	switch {
	case e.addr.IsValid() && e.proto == "":
		parts = append(parts, e.addr.String())
	case e.addr.IsValid():
		parts = append(parts, e.addr.String(), fmt.Sprintf("%s:%d", e.proto, e.port))
	default:
		parts = append(parts, fmt.Sprint(e.port))
	}
	if e.second.IsValid() {
		parts = append(parts, e.second.String())
	}
	return strings.Join(parts, ",")
}

// setHolding is what an ipset was found to be.
type setHolding int

const (
	setMissing setHolding = iota // there is no such set
	setWithout                   // it does not hold the element
	setHolds
)

// setState is what a diagnosis may ask about ipsets. Asking loads nothing, and holds none.
type setState interface {
	InSet(netns uint32, set string, e setEntry) (setHolding, error)
}

// InSet implements State.
func (l *Live) InSet(netns uint32, set string, e setEntry) (setHolding, error) {
	return ask(l, fmt.Sprint("ipset ", set, " ", e), netns, func() (found setHolding, err error) {
		err = l.ns.Do(netns, func() error {
			found, err = inSet(set, e)
			return err
		})
		if err != nil {
			return setMissing, fmt.Errorf("%s: %w", l.ns.Place(netns), err)
		}
		return found, nil
	})
}

// inSet asks the calling thread's namespace.
func inSet(name string, e setEntry) (found setHolding, err error) {
	sets, err := ipset.Open()
	if errors.Is(err, ipset.ErrNoSupport) {
		return setMissing, nil
	}
	if err != nil {
		return setMissing, err
	}
	defer func() { err = errors.Join(err, sets.Close()) }()
	set, err := sets.Set(name)
	if errors.Is(err, ipset.ErrNoSet) {
		return setMissing, nil
	}
	if err != nil {
		return setMissing, err
	}
	if dims := strings.Join(set.Dimensions(), ","); !slices.Contains(e.dimensions(), dims) {
		return setMissing, fmt.Errorf("ipset %s is of type %s, which does not hold %s", name, set.Type, e)
	}
	answer, err := sets.Contains(name, ipset.Element{Type: set.Type, IP: e.addr, Second: e.second, Port: e.port, Proto: protocols[e.proto]})
	switch {
	case errors.Is(err, ipset.ErrNoSet):
		return setMissing, nil
	case err != nil:
		return setMissing, err
	case answer == packet.Yes:
		return setHolds, nil
	}
	return setWithout, nil
}

// dimensions are those of the sets that hold such elements.
func (e setEntry) dimensions() []string {
	switch {
	case !e.addr.IsValid():
		return []string{"port"}
	case e.second.IsValid():
		return []string{"ip,port,ip"}
	case e.proto == "":
		return []string{"ip", "net"}
	}
	return []string{"ip,port"}
}
