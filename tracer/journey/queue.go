// SPDX-License-Identifier: Apache-2.0

package journey

// queueShift: NF_VERDICT_QBITS, include/uapi/linux/netfilter.h.
const queueShift = 16

// queueOfVerdict is the number of the queue that a table sent a packet to: its
// verdict has it, or where that was not seen the rule.
func queueOfVerdict(e *Record, r Ruling) *uint16 {
	if e.Fn == FnLink {
		return r.Queue
	}
	n := uint16(uint32(e.Result) >> queueShift)
	return &n
}
