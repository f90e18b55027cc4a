// SPDX-License-Identifier: Apache-2.0

package ipset

// This file asks whether a packet is in a set, the way the set match of
// iptables does (net/netfilter/ipset/ip_set_core.c, ip_set_test).

import (
	"errors"

	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
)

// maxDepth bounds lists within lists; the kernel forbids them today.
const maxDepth = 4

// Test tells whether a packet is in a set now. dirs are the match's flags from
// the first dimension on, true for the packet's source. It is Unknown where the
// set asks for what was not seen (a MAC address). It fails with ErrNoSet.
func (s *Sets) Test(name string, dirs []bool, p *packet.Packet) (packet.Answer, error) {
	return s.test(name, dirs, p, 0)
}

func (s *Sets) test(name string, dirs []bool, p *packet.Packet, depth int) (packet.Answer, error) {
	set, err := s.Set(name)
	if err != nil {
		return packet.Unknown, err
	}
	if set.List() {
		return s.testList(name, dirs, p, depth)
	}
	e, answer := set.Element(dirs, p)
	if answer != packet.Yes {
		return answer, nil
	}
	return s.Contains(name, e)
}

// testList asks a list's sets one after the other (ip_set_list_set.c,
// list_set_ktest). A member that is gone by now is left out.
func (s *Sets) testList(name string, dirs []bool, p *packet.Packet, depth int) (packet.Answer, error) {
	if depth >= maxDepth || len(dirs) == 0 {
		return packet.Unknown, nil
	}
	members, err := s.members(name)
	if err != nil {
		return packet.Unknown, err
	}
	result := packet.No
	for _, member := range members {
		answer, err := s.test(member, dirs, p, depth+1)
		switch {
		case errors.Is(err, ErrNoSet):
			continue
		case err != nil:
			return packet.Unknown, err
		case answer == packet.Yes:
			return packet.Yes, nil
		case answer == packet.Unknown:
			result = packet.Unknown
		}
	}
	return result, nil
}
