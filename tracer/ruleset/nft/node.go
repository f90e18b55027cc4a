// SPDX-License-Identifier: Apache-2.0

package nft

// This file holds the tree that a rule's expressions are made into before they
// are written: what was loaded into registers stands where it is used.

import "math/big"

// nodeKind tells what a node is.
type nodeKind uint8

const (
	nodeValue   nodeKind = iota // a constant
	nodePayload                 // a header field or raw bytes
	nodeMeta
	nodeCT
	nodeOption  // exthdr
	nodeLoad    // any other load, written as text
	nodeBinary  // left op right, both numbers
	nodeSwap    // left with its bytes swapped; not written
	nodeCompare // left op right
	nodeRange   // left-right
	nodePrefix  // left/length
	nodeList    // items joined by commas: flags
	nodeConcat  // items joined by dots
	nodeSet     // a set or its elements
	nodeMap     // left looked up in right
	nodeFlags   // left op items[0] / items[1]: flags under a mask
)

// operator joins two nodes.
type operator uint8

const (
	opEq operator = iota
	opNeq
	opLt
	opLte
	opGt
	opGte
	opImplicit // any of these flags
	opNone     // none of these flags
	opAnd
	opOr
	opXor
	opLshift
	opRshift
)

// opWords are the operators as written.
var opWords = [...]string{"==", "!=", "<", "<=", ">", ">=", "", "!", "&", "|", "^", "<<", ">>"}

// node is one piece of a rule.
type node struct {
	kind  nodeKind
	typ   *datatype
	order order
	bits  uint

	// value: as the bytes in the register read from the left.
	num *big.Int
	// split: the constant is written as its flags, one by one; nft leaves a
	// header field's value whole.
	split bool

	// payload
	layer  protoBase
	offset uint
	proto  protoID
	field  *field
	link   bool // the field tells the protocol above

	meta MetaKey
	ct   CT
	// ctNet is the word for the addresses of ct: ip, ip6 or none.
	ctNet string

	ext     Exthdr
	extName string // option's name; "" for raw
	text    string // load: what stands before left
	suffix  string // load: what stands behind it

	op          operator
	left, right *node
	items       []*node
	length      uint // of a prefix

	set *Set
	// shift and cut tell how many bits of an inline set's keys are left over
	// once a field that is no whole byte was found behind a mask.
	shift, cut uint
}

// clone copies a node with all below it: what is in a register may be used more
// than once, and is changed where it is used.
func (n *node) clone() *node {
	if n == nil {
		return nil
	}
	c := *n
	if n.num != nil {
		c.num = new(big.Int).Set(n.num)
	}
	c.left, c.right = n.left.clone(), n.right.clone()
	c.items = nil
	for _, i := range n.items {
		c.items = append(c.items, i.clone())
	}
	return &c
}

// valueOf makes a constant of a register's bytes.
func valueOf(b []byte) *node {
	return &node{kind: nodeValue, typ: typeInvalid, num: new(big.Int).SetBytes(b), bits: uint(len(b)) * bitsPerByte}
}

// setType gives a constant, or all constants in it, the type and byte order of
// what it is compared to.
func (n *node) setType(t *datatype, o order) {
	if n == nil {
		return
	}
	switch n.kind {
	case nodeRange:
		n.left.setType(t, o)
		n.right.setType(t, o)
	case nodePrefix:
		n.left.setType(t, o)
	case nodePayload, nodeMeta, nodeCT, nodeOption, nodeLoad, nodeMap, nodeConcat, nodeBinary, nodeSwap:
		if n.typ == typeInvalid {
			n.typ = t
		}
		return
	}
	n.typ, n.order = t, o
}

// number is the constant with its bytes in the order its type has.
func (n *node) number() *big.Int {
	if n.order == hostOrder && n.typ.class != classString {
		return swapBytes(n.num, n.bits)
	}
	return n.num
}

// swapBytes turns the bytes of a value of so many bits round; this code runs
// only on little-endian machines, where host order is the other one.
func swapBytes(v *big.Int, bits uint) *big.Int {
	size := (bits + bitsPerByte - 1) / bitsPerByte
	b := fill(v, size)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return new(big.Int).SetBytes(b)
}

// fill gives the low bytes of a number, the most significant first.
func fill(v *big.Int, size uint) []byte {
	if uint(v.BitLen()) > size*bitsPerByte {
		v = new(big.Int).And(v, ones(size*bitsPerByte))
	}
	return v.FillBytes(make([]byte, size))
}

// ones is a number of so many set bits.
func ones(bits uint) *big.Int {
	v := new(big.Int).Lsh(big.NewInt(1), bits)
	return v.Sub(v, big.NewInt(1))
}

// maskLength tells how many bits a mask of the given width leaves as a prefix:
// its set bits are one run that reaches the top. (nft 1.0.6 takes an empty mask
// for a prefix too.)
func maskLength(mask *big.Int, bits uint) (uint, bool) {
	if mask.Sign() == 0 {
		return 0, true
	}
	low := mask.TrailingZeroBits()
	if uint(mask.BitLen()) != bits || !run(mask) {
		return 0, false
	}
	return bits - low, true
}

// run tells whether the set bits of a number are one run.
func run(v *big.Int) bool {
	low := v.TrailingZeroBits()
	high := uint(v.BitLen())
	return high > low && new(big.Int).Rsh(v, low).Cmp(ones(high-low)) == 0
}

// mayPrefix tells whether values of the node's type are written with a prefix
// length.
func (n *node) mayPrefix() bool { return n.typ != nil && n.typ.prefix }

// bitmask tells whether the node's type is one of flags.
func (n *node) bitmask() bool {
	return n.typ != nil && n.typ.class == classBitmask && n.typ != typeBitmask
}
