// SPDX-License-Identifier: Apache-2.0

// Packets whose end nobody saw: forgotten in time, so that the gate closes.

package attach

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/bpf"
)

const (
	// An skb handed to its receiver may be freed without a word: forget it soon.
	deliveredFor = 200 * time.Millisecond
	// So may one that came in encrypted, but WireGuard decrypts it when it comes to it: by
	// a worker, which other work may keep waiting.
	sealedFor = 2 * time.Second
	// Anything else that was not seen for so long was freed unseen. Longer
	// than a neighbour is probed for (3 s) or a qdisc holds a packet.
	unseenFor = 30 * time.Second
)

// Sweep forgets skbs that will not be seen again, so that the gate closes: now is
// the kernel's clock. The deleting itself is done by the kernel half: it counts.
func (a *Attachment) Sweep(now uint64) {
	if !a.anyKnown() {
		return
	}
	var key uint64
	var val bpf.Tracked
	var stale []uint64
	it := a.coll.Maps["skbs"].Iterate()
	for it.Next(&key, &val) {
		limit := unseenFor
		switch {
		case val.Sealed == val.Id:
			limit = sealedFor
		case val.Flags&bpf.TrackedDelivered != 0:
			limit = deliveredFor
		}
		if now-val.Last > uint64(limit) && now > val.Last {
			stale = append(stale, key, val.Last+1)
		}
	}
	if err := it.Err(); err != nil {
		a.cfg.Verbose(fmt.Sprintf("sweep: %v", err)) // the rest comes next time
	}
	for i := 0; i < len(stale); i += 2 {
		args := struct{ A [2]uint64 }{[2]uint64{stale[i], stale[i+1]}}
		if _, err := a.coll.Programs["sweep"].Run(&ebpf.RunOptions{Context: args}); err != nil {
			a.cfg.Verbose(fmt.Sprintf("sweep: %v", err))
			return
		}
	}
}

// anyKnown tells whether the kernel half knows packets, under way or delivered.
func (a *Attachment) anyKnown() bool {
	for _, name := range []string{"in_flight", "arrived"} {
		var count uint64
		if err := a.coll.Variables[name].Get(&count); err == nil && count != 0 {
			return true
		}
	}
	return false
}
