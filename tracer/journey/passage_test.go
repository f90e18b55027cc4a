// SPDX-License-Identifier: Apache-2.0

package journey

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/bpf"
)

// A rule is asked about the packet as it came to the table. What tells of its
// death there (a legacy table at the same priority) shows the marks that the
// table's own rules have set: taken for those it came with, they name a rule that
// it never met.
func TestPassageIsOfThePacketBeforeTheTable(t *testing.T) {
	const forward = 2 + 1
	c := copyState{hookState: hookState{bracket: bpf.Event{Id: 7, Hook: forward, Netns: 1, Mark: 0x80000}}, last: bpf.Event{Id: 7, Hook: forward, Netns: 1, Mark: 0x40000, Kind: bpf.KindTable}}
	e := &Record{Event: bpf.Event{Id: 7, Hook: forward, Netns: 1, Pf: unix.NFPROTO_IPV4}}
	if mark := c.passage(e, Table{}).At.Mark; mark != 0x80000 {
		t.Errorf("evaluated with mark %#x, it came with 0x80000", mark)
	}
	e.Hook++ // another hook: that link says nothing of it
	if mark := c.passage(e, Table{}).At.Mark; mark != 0x40000 {
		t.Errorf("evaluated with mark %#x, it was last seen with 0x40000", mark)
	}
}
