// SPDX-License-Identifier: Apache-2.0

package journey

// This file tells of packets that WireGuard encrypts, which only their skb tells.

import (
	"fmt"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// wireGuard is the kind of tunnel, and of its devices.
const wireGuard = "wireguard"

// fnWireGuardSource is where the source of what was decrypted is looked up; the kernel
// half tells of it only where the answer is not the peer that sent it.
const fnWireGuardSource = uint8(bpf.FentryFnFN_wgAllowedipsLookupSrc)

// fnWireGuardSend is where WireGuard takes a packet in.
const fnWireGuardSend = uint8(bpf.FentryFnFN_wgXmit)

// withWireGuard tells that a copy was handed to WireGuard and not seen since: by its
// function, or by the device where that is not seen.
func (c *copyState) withWireGuard(w *world) bool {
	l := &c.last
	return l.Kind == bpf.KindEncap && l.Fn == fnWireGuardSend || l.Kind == bpf.KindTransmit && w.Decrypts(l.Netns, l.Ifindex, CString(l.Ifname[:]))
}

// letGo: WireGuard freed what it had taken in, in the way that otherwise means good
// order: a large packet that it has cut into segments, or one of those that wait for a
// key and are too many (wg_xmit, drivers/net/wireguard/device.c, 5.6 to 7.3). What became
// of the latter is not known. Of the segments the first is followed as a copy, where the
// kernel half can; otherwise the packet ended in good order, as far as it is known.
func (j *journey) letGo(w *world, c *copyState, e *Record) {
	j.terminal = true
	c.tap = true // its end says nothing
	if size := c.last.Result; size != 0 {
		c.cut = true
		says := fmt.Sprintf("cut into segments of %d bytes, each encrypted by itself", size)
		if h := j.entering(); h != nil {
			h.Result = says
			return
		}
		h := j.hop(w, c, e, model.StageEncapsulate)
		h.Interface, h.IfIndex, h.Function, h.Tunnel, h.Result = CString(c.last.Ifname[:]), c.last.Ifindex, "", &model.Tunnel{Kind: wireGuard}, says
		j.push(e, h)
		return
	}
	h := j.hop(w, c, e, model.StageEncapsulate)
	h.Interface, h.IfIndex, h.Tunnel = CString(c.last.Ifname[:]), c.last.Ifindex, &model.Tunnel{Kind: wireGuard}
	h.Result = "WireGuard let go of it: one too many to wait for a key"
	j.push(e, h)
}

// entering is the hop that took the packet into WireGuard last, as long as its outer
// header was not seen.
func (j *journey) entering() *model.Hop {
	for i := range slices.Backward(j.hops) {
		if h := &j.hops[i]; h.Stage == model.StageEncapsulate {
			if h.Tunnel == nil {
				return h
			}
			return nil
		}
	}
	return nil
}

// sealedPart takes over what the first segment shows of the outer header.
func (j *journey) sealedPart(e *Record) {
	if h := j.entering(); h != nil && e.Flags&bpf.FlagEncap != 0 && e.Tun.Kind == bpf.TunnelWireGuard {
		h.Tunnel = TunnelOf(&e.Tun)
		if h.Result != "" {
			h.Result += ": the first is followed"
		}
	}
}

// cut tells that the packet is known to have been cut, and nothing of its parts is yet.
func (j *journey) cut() bool {
	return len(j.copies) == 1 && j.copies[j.order[0]].cut
}

// refusedSource: WireGuard looked for the packet's source among its peers' allowed IPs,
// found it to be not the sender's, and let go of the packet in the way that otherwise
// means good order (drivers/net/wireguard/receive.c, 5.6 to 7.3:
// wg_packet_consume_data_done, dishonest_packet_peer). The kernel gives no reason.
func (j *journey) refusedSource(w *world, c *copyState, e *Record) {
	j.terminal = true
	d := &model.Drop{
		Reason: "NOT_SPECIFIED", Stage: model.StageDecapsulate, Function: "wg_packet_consume_data_done",
		Interface: CString(c.last.Ifname[:]), IfIndex: c.last.Ifindex, Netns: e.Netns, Place: w.Place(e.Netns),
	}
	h := j.hop(w, c, e, model.StageDrop)
	h.Interface, h.IfIndex, h.Function, h.Result = d.Interface, d.IfIndex, d.Function, d.Reason
	j.push(e, h)
	c.drop = d
}

// unopenedFor is how long a packet that came in encrypted is kept for what comes out of
// it: the kernel half forgets it sooner (attach/sweep.go).
const unopenedFor = 2500 * time.Millisecond

// maxUnopened bounds the encrypted packets whose death is kept until somebody asks.
const maxUnopened = 64

// unopened are packets that came in encrypted, of which it is not known whether one of
// the flow is inside. What comes out takes its hops over; of those that died first no more
// is known than who sent them.
type unopened struct {
	w    *world
	by   map[uint64]*journey
	died []*model.Packet
}

// add takes the sighting of one.
func (u *unopened) add(e *Record, now time.Time) {
	j := u.by[e.Id]
	if j == nil {
		if e.Flags&bpf.FlagNew == 0 {
			return // it was let go of here
		}
		j = newJourney(e, now)
		u.by[e.Id] = j
	}
	j.add(u.w, e, now)
}

// opened gives the encrypted packet that another one came out of, once; nil: it is not
// known here.
func (u *unopened) opened(id uint64) *journey {
	j := u.by[id]
	delete(u.by, id)
	if j == nil || !j.own {
		return nil
	}
	return j
}

// cameIn puts the way of the encrypted packet before that of what came out of it.
func (j *journey) cameIn(outer *journey) {
	for i, h := range outer.hops {
		if h.Stage != model.StageDeliver { // to WireGuard, which is not its end
			j.hops, j.times = append(j.hops, h), append(j.times, outer.times[i])
		}
	}
	j.carrier = TunnelOf(&outer.lastSeen().Tun)
}

// outOf is the tunnel that a packet came out of, by what is known.
func (j *journey) outOf() *model.Tunnel {
	if j.carrier != nil {
		t := *j.carrier
		return &t
	}
	return &model.Tunnel{Kind: wireGuard}
}

// due lets go of those that nothing will come out of; who died is kept.
func (u *unopened) due(now time.Time, closing bool, wall func(uint64) time.Time) {
	for id, j := range u.by {
		quiet := now.Sub(j.touched)
		if _, drop := j.fate(); drop != nil && (closing || quiet >= QuietAfterEnd) {
			delete(u.by, id)
			j.tentative = false
			if p := j.packet(0, wall); p != nil && len(u.died) < maxUnopened {
				u.w.rules.Explain(p)
				nameAddresses(u.w, p)
				u.died = append(u.died, p)
			}
		} else if closing || quiet >= unopenedFor {
			delete(u.by, id)
		}
	}
}

// Unopened gives the packets that came in encrypted by a tunnel that the flow may come by
// and died before they were decrypted, since it was asked last. Whether any of them held
// one of the flow is not known: they are not counted as packets of the trace.
func (a *Assembler) Unopened() []*model.Packet {
	all := a.unopened.died
	a.unopened.died = nil
	return all
}
