// SPDX-License-Identifier: Apache-2.0

package cause

// Conntrack's zones: a rule puts a packet into one, and its connection is looked for, and
// entered, there alone. Where the two directions of a connection are looked for in two
// zones, neither knows the other.

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// zoneRules put packets into a zone, as iptables-save and nft print them: for both
// directions of the connection, or one. Zones that a mark or a map gives are not known.
var zoneRules = regexp.MustCompile(`-j CT .*--zone(-orig|-reply)? (\d+)(?: |$)|(?:^|[ {])ct (original |reply )?zone set (\d+)(?: |$)`)

// maxZones bounds the zones that conntrack is asked about.
const maxZones = 16

// zone is what a rule puts packets into. What it says counts for the direction of a
// packet within its connection, whatever direction the rule saw (nf_ct_zone_id,
// include/net/netfilter/nf_conntrack_zones.h, 6.12).
type zone struct {
	id          uint16
	orig, reply bool
}

// of is the number that counts for a direction; 0 is the default zone.
func (z zone) of(reply bool) uint16 {
	if reply && !z.reply || !reply && !z.orig {
		return 0
	}
	return z.id
}

// zoneOf reads a rule's zone; ok is false if it sets none.
func zoneOf(rule string) (z zone, ok bool) {
	m := zoneRules.FindStringSubmatch(quoted.ReplaceAllString(rule, `""`))
	if m == nil {
		return z, false
	}
	id, err := strconv.ParseUint(m[2]+m[4], 10, 16)
	dir := m[1] + m[3]
	return zone{id: uint16(id), orig: dir != "-reply" && dir != "reply ", reply: dir != "-orig" && dir != "original "}, err == nil
}

// zoneRule is a rule that a packet met, with its zone.
type zoneRule struct {
	zone
	rule  model.Rule
	exact bool
	hop   *model.Hop
}

// zoneRuleOf is the rule that put a packet into a zone in a namespace, the last of
// several; nil: none that is known.
func zoneRuleOf(p *model.Packet, netns uint32) (met *zoneRule) {
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Netns != netns {
			continue
		}
		for _, r := range h.Rules {
			if z, ok := zoneOf(r.Text); ok {
				met = &zoneRule{z, r, h.RuleSource == model.RuleExact && !r.Inferred, h}
			}
		}
	}
	return met
}

// zoneKey is one direction of an exchange in a namespace.
type zoneKey struct {
	exchange  peerKey
	direction model.Direction
	netns     uint32
}

// seeZone notes the rules that put a packet into zones.
func (m *memory) seeZone(p *model.Packet) {
	var last uint32
	for i := range p.Hops {
		netns := p.Hops[i].Netns
		if netns == last || len(p.Hops[i].Rules) == 0 {
			continue
		}
		last = netns
		if z := zoneRuleOf(p, netns); z != nil && len(m.zones) < maxTranslations {
			m.zones[zoneKey{sideKey(p), p.Direction, netns}] = z
		}
	}
}

// zoned: the packet's connection has its entry in another zone than the packet was
// looked for in.
func (q *inquiry) zoned(o *outside, netns uint32) bool {
	own := zoneRuleOf(q.p, netns)
	other := model.Forward
	if q.p.Direction == model.Forward {
		other = model.Return
	}
	peer := q.mem.zones[zoneKey{sideKey(q.p), other, netns}]
	all := q.zonesOf(netns)
	if own == nil && peer == nil && len(all) == 0 {
		return false
	}
	reply := q.isReply()
	var here uint16
	if own != nil {
		here = own.of(reply)
	}
	entry, there, found := q.inOtherZone(netns, here, all)
	switch {
	case found:
	case peer != nil && peer.of(reply) != here:
		there = peer.of(reply)
	case own != nil && peer == nil && here != 0:
		return false // whether the other direction has a zone is not known
	default:
		return false
	}
	q.tellZones(o, own, peer, here, there)
	if found {
		o.evidence = append(o.evidence, fmt.Sprintf("conntrack -L: %s %s", q.p.Proto, connectionWords(entry)))
	} else {
		o.certain = false
		o.missing = append(o.missing, "the entry itself: conntrack could not be asked for it, or it is gone by now")
	}
	return true
}

// tellZones words it.
func (q *inquiry) tellZones(o *outside, own, peer *zoneRule, here, there uint16) {
	what, with := "the request", "the reply"
	if !q.isReply() {
		what, with = "the other direction", "this one"
	}
	o.why = fmt.Sprintf("conntrack has its connection in zone %d, and looks for %s in zone %d", there, with, here)
	for _, z := range []*zoneRule{peer, own} {
		if z == nil {
			continue
		}
		who := what
		if z == own {
			who = with
		}
		o.why += fmt.Sprintf(": %s puts %s into zone %d", namedRule(&z.rule), who, z.id)
		o.evidence = append(o.evidence, namedRule(&z.rule)+": "+z.rule.Text)
		if !z.exact {
			o.certain = false
			o.missing = append(o.missing, "the rule that puts "+who+" into its zone was read off the rule set, this backend does not see it matching")
		}
	}
	if own == nil && peer == nil {
		o.certain = false
		o.missing = append(o.missing, "which rule puts them into two zones: none that they met was seen to")
	}
	e := endsAt(q.p)
	switch {
	case peer != nil && there != 0:
		o.fix = append(o.fix, fmt.Sprintf("put both directions into the zone: a rule of the same kind for what comes from %s port %d (CT --zone %d; nft: ct zone set %d)", q.p.Src, q.p.SrcPort, there, there),
			fmt.Sprintf("or have the zone count for the request's direction alone: CT --zone-orig %d; nft: ct original zone set %d", there, there))
	default:
		o.fix = append(o.fix, fmt.Sprintf("put both directions into one zone: what goes to %s port %d, and what comes from there", e.Src, e.SrcPort))
	}
	for _, z := range []*zoneRule{peer, own} {
		if z != nil {
			if remove := removal(z.hop, &z.rule); remove != "" {
				o.fix = append(o.fix, "or put neither into one, if nobody needs it: "+remove)
			}
		}
	}
	o.fix = append(o.fix, fmt.Sprintf("see both zones: conntrack -L -p %s | grep -w %s (zone=)", q.p.Proto, e.Dst))
}

// zonesOf are the zones that rules of a namespace name, but for the default one.
func (q *inquiry) zonesOf(netns uint32) (all []uint16) {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	for r := range sets.All() {
		if z, ok := zoneOf(r.Text); ok && z.id != 0 && len(all) < maxZones && !slices.Contains(all, z.id) {
			all = append(all, z.id)
		}
	}
	return all
}

// inOtherZone asks conntrack for the packet's connection in the zones where it was not
// looked for.
func (q *inquiry) inOtherZone(netns uint32, here uint16, zones []uint16) (c node.Connection, id uint16, ok bool) {
	flow, known := q.flow(netns)
	if !known {
		return c, 0, false
	}
	for _, id := range append([]uint16{0}, zones...) {
		if id == here {
			continue
		}
		c, ok, err := q.state.ConnectionInZone(netns, flow, id)
		if errors.Is(err, node.ErrNoConntrackQuery) {
			return c, 0, false
		}
		q.gap(err)
		if err == nil && ok && (c.Reply == flow || c.Orig == flow && !q.isReply()) {
			return c, id, true
		}
	}
	return c, 0, false
}

// zoneWords are an entry's zones as `conntrack -L` prints them.
func zoneWords(c node.Connection) (says string) {
	for _, z := range []struct {
		name string
		id   uint16
	}{{"zone", c.Zone}, {"zone-orig", c.ZoneOrig}, {"zone-reply", c.ZoneReply}} {
		if z.id != 0 {
			says += fmt.Sprintf(" %s=%d", z.name, z.id)
		}
	}
	return says
}
