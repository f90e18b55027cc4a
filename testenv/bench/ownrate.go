// SPDX-License-Identifier: Apache-2.0

// What a trace costs the traced flow itself, and whether it keeps up: floods of
// the traced flow at a rate, with the balance of what was sent and what told.

package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// OwnRate is the balance of one flood.
type OwnRate struct {
	Tool        string  `json:"tool"`
	Asked       int     `json:"asked_pps"`
	Without     float64 `json:"without_pps"` // what the sender reached untraced
	With        float64 `json:"with_pps"`
	Sent        int     `json:"sent"`
	Received    int     `json:"received"`
	NoRoom      int     `json:"no_room"`      // the receiving socket was full
	Dropped     int     `json:"dropped"`      // reached no socket
	Told        int     `json:"told"`         // packets told
	LostEvents  uint64  `json:"lost_events"`  // as the summary has it
	LostPackets uint64  `json:"lost_packets"` // likewise
	SampledOut  uint64  `json:"sampled_out"`  // likewise: left out on purpose
	Silent      int     `json:"silent"`       // sent, but neither told nor counted
	Life
}

// OwnRate floods the traced flow for a while, untraced and traced.
func (n *Node) OwnRate(ctx context.Context, name, bin string, args []string, pps int, d time.Duration) (OwnRate, error) {
	o := OwnRate{Tool: name, Asked: pps}
	if pps < 1 {
		return o, fmt.Errorf("a rate of %d packets a second: take 1 or more", pps)
	}
	spec := traffic.FloodSpec{Src: tracedSrc, Dst: tracedDst, Rate: pps, Packets: max(int(float64(pps)*d.Seconds()), 1)}
	bare, err := traffic.Flood(ctx, n.Env, spec)
	if err != nil {
		return o, err
	}
	src, dst := n.Traced()
	all := append([]string{"--src", src, "--dst", dst, "--proto", "udp", "--port", strconv.Itoa(traffic.FloodPort)}, args...)
	t, err := startPathtrace(ctx, n, bin, all...)
	if err != nil {
		return o, err
	}
	r, err := traffic.Flood(ctx, n.Env, spec)
	o.Life, err = stopAfter(t, err)
	if err != nil {
		return o, err
	}
	_, summary, told := t.told()
	o.Without, o.With = bare.PPS(), r.PPS()
	o.Sent, o.Received, o.NoRoom, o.Dropped = r.Sent, r.Received, r.SocketDrops, r.Lost()
	o.Told, o.LostEvents, o.LostPackets = told, summary.LostEvents, summary.LostPackets
	o.SampledOut = summary.SampledOut
	o.Silent = max(0, r.Sent-told-int(summary.LostPackets+summary.SampledOut))
	return o, nil
}

// stopAfter stops a trace, and keeps the error that came before.
func stopAfter(t *trace, before error) (Life, error) {
	life, err := t.Stop()
	return life, errors.Join(before, err)
}
