// SPDX-License-Identifier: Apache-2.0

package nft

// This file finishes and writes the statements that send packets elsewhere, and
// those that fill sets.

import (
	"fmt"
	"math/big"
	"strings"
)

// natStatement translates addresses.
type natStatement struct {
	nat         NAT
	family      uint8 // written; 0 none
	addr, ports *node
	prefix      bool
}

func (s *natStatement) finish(d *deducer) {
	s.addr = d.resolve(s.addr)
	if s.ports != nil {
		d.deps = implied{}
		s.ports = d.resolve(s.ports)
	}
}

func (s *natStatement) write(p *printer) string {
	text := map[uint32]string{
		NATSource: "snat", NATDestination: "dnat", NATMasquerade: "masquerade", NATRedirect: "redirect",
	}[s.nat.Type]
	if s.addr != nil || s.ports != nil {
		text += familyWord(s.family)
		if s.prefix {
			text += " prefix"
		}
		text += " to "
	}
	text += addrAndPort(p, s.addr, s.ports)
	return text + natFlags(s.nat.Flags)
}

// familyWord is the family of an address where it has to be said.
func familyWord(family uint8) string {
	switch family {
	case protoIPv4:
		return " ip"
	case protoIPv6:
		return " ip6"
	}
	return ""
}

// addrAndPort writes an address with a port behind it; IPv6 addresses need
// brackets then.
func addrAndPort(p *printer, addr, port *node) string {
	switch {
	case addr == nil && port == nil:
		return ""
	case addr == nil:
		return ":" + p.node(port)
	case port == nil:
		return p.node(addr)
	case addr.kind == nodeValue && addr.typ == typeIP6Addr:
		return "[" + p.node(addr) + "]:" + p.node(port)
	case addr.kind == nodeRange && addr.left.typ == typeIP6Addr:
		return "[" + p.node(addr.left) + "]-[" + p.node(addr.right) + "]:" + p.node(port)
	}
	return p.node(addr) + ":" + p.node(port)
}

// natFlags: NF_NAT_RANGE_PROTO_RANDOM, _PERSISTENT and _PROTO_RANDOM_FULLY
// (linux/netfilter/nf_nat.h).
func natFlags(flags uint32) string {
	const random, persistent, fullyRandom = 1 << 2, 1 << 3, 1 << 4
	var words []string
	if flags&random != 0 {
		words = append(words, "random")
	}
	if flags&fullyRandom != 0 {
		words = append(words, "fully-random")
	}
	if flags&persistent != 0 {
		words = append(words, "persistent")
	}
	if words == nil {
		return ""
	}
	return " " + strings.Join(words, ",")
}

// rangeToPrefix writes a range of addresses that is a network as one.
func rangeToPrefix(n *node) *node {
	if n.left.kind != nodeValue || n.right.kind != nodeValue {
		return n
	}
	length, ok := networkLength(n.left.num, n.right.num, n.left.bits)
	if !ok || length == n.left.bits {
		return n
	}
	return &node{kind: nodePrefix, typ: n.typ, left: n.left, length: length}
}

// networkLength tells the prefix length of a range that is a network.
func networkLength(first, last *big.Int, bits uint) (uint, bool) {
	size := new(big.Int).Sub(last, first)
	host := uint(size.BitLen())
	if size.Sign() < 0 || size.Cmp(ones(host)) != 0 || host > bits {
		return 0, false
	}
	if new(big.Int).And(first, size).Sign() != 0 {
		return 0, false
	}
	return bits - host, true
}

// tproxyStatement hands the packet to a local socket.
type tproxyStatement struct {
	family     uint8
	inet       bool
	addr, port *node
}

func (s *tproxyStatement) finish(d *deducer) {
	s.addr = d.resolve(s.addr)
	if s.port != nil {
		d.deps = implied{}
		s.port = d.resolve(s.port)
	}
}

func (s *tproxyStatement) write(p *printer) string {
	text := "tproxy"
	if s.inet {
		text += familyWord(s.family)
	}
	return text + " to " + addrAndPort(p, s.addr, s.port)
}

// dupStatement sends the packet or a copy elsewhere.
type dupStatement struct {
	word      string
	addr, dev *node
}

func (s *dupStatement) finish(d *deducer) { s.addr, s.dev = d.resolve(s.addr), d.resolve(s.dev) }

func (s *dupStatement) write(p *printer) string {
	switch {
	case s.addr == nil && s.dev == nil:
		return s.word
	case s.addr == nil:
		return s.word + " to " + p.node(s.dev)
	case s.dev == nil:
		return s.word + " to " + p.node(s.addr)
	}
	return s.word + " to " + p.node(s.addr) + " device " + p.node(s.dev)
}

// queueStatement hands the packet to user space.
type queueStatement struct {
	queue  Queue
	number *node
}

func (s *queueStatement) finish(d *deducer) { s.number = d.resolve(s.number) }

func (s *queueStatement) write(p *printer) string {
	const bypass, fanout = 1, 2 // NFT_QUEUE_FLAG_*
	text := "queue"
	switch s.queue.Flags & (bypass | fanout) {
	case bypass:
		text += " flags bypass"
	case fanout:
		text += " flags fanout"
	case bypass | fanout:
		text += " flags bypass,fanout"
	}
	if s.number != nil {
		return text + " to " + p.node(s.number)
	}
	text += fmt.Sprintf(" to %d", s.queue.Num)
	if s.queue.Total > 1 {
		text += fmt.Sprintf("-%d", int(s.queue.Num)+int(s.queue.Total)-1)
	}
	return text
}

// dynsetStatement fills a set.
type dynsetStatement struct {
	dynset    Dynset
	set       *Set
	key, data *node
	inner     []string
}

func (s *dynsetStatement) finish(d *deducer) {
	s.key, s.data = d.resolve(s.key), d.resolve(s.data)
}

func (s *dynsetStatement) write(p *printer) string {
	key := p.node(s.key)
	if s.dynset.Timeout > 0 {
		key += " timeout " + durationText(s.dynset.Timeout)
	}
	if s.set.Anonymous() && len(s.inner) > 0 {
		return fmt.Sprintf("meter %s size %d { %s %s }", s.set.Name, s.set.Size, key, s.inner[0])
	}
	word := "add"
	switch s.dynset.Op {
	case DynsetUpdate:
		word = "update"
	case DynsetDelete:
		word = "delete"
	}
	text := word + " @" + s.set.Name + " { " + strings.Join(append([]string{key}, s.inner...), " ")
	if s.data != nil {
		text += " : " + p.node(s.data)
	}
	return text + " }"
}
