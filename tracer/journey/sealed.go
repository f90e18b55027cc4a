// SPDX-License-Identifier: Apache-2.0

package journey

// This file tells of packets that WireGuard encrypts, which only their skb tells.

import (
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

// letGo: WireGuard freed what it had taken in, in the way that otherwise means good
// order: a large packet whose segments go on, which nothing ties to it, or one of those
// that wait for a key and are too many (wg_xmit, drivers/net/wireguard/device.c, 5.6 to
// 7.3). What became of it is not known.
func (j *journey) letGo(w *world, c *copyState, e *Record) {
	j.terminal = true
	h := j.hop(w, c, e, model.StageEncapsulate)
	h.Interface, h.IfIndex, h.Tunnel = CString(c.last.Ifname[:]), c.last.Ifindex, &model.Tunnel{Kind: wireGuard}
	h.Result = "WireGuard let go of it: cut into segments, or one too many to wait for a key"
	j.push(e, h)
	c.tap = true // its end says nothing
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
