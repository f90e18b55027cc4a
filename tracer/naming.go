// SPDX-License-Identifier: Apache-2.0

// What the assembler asks the kernel knowledge for: names behind numbers.

package tracer

import (
	"github.com/pathtrace/pathtrace/tracer/journey"
	"github.com/pathtrace/pathtrace/tracer/kernel"
)

// kernelNames is what this kernel calls things.
type kernelNames struct {
	kern    *kernel.Kernel
	symbols *kernel.Symbols
	fns     map[uint8]string // functions that events tell of
}

// Reason implements naming.
func (k kernelNames) Reason(code uint32) string { return k.kern.DropReasons().Name(code) }

// Symbol implements naming.
func (k kernelNames) Symbol(addr uint64) string { return k.symbols.Format(addr) }

// Function implements naming.
func (k kernelNames) Function(fn uint8) string { return k.fns[fn] }

// RouteReason implements naming: what a negative result of source validation
// means. Since ip_route_input_slow() returns drop reasons instead of an errno
// (its type says which), fib_validate_source() returns them negated.
func (k kernelNames) RouteReason(result int32) (reason string, isErrno bool) {
	if k.kern.ReturnsEnum("ip_route_input_slow") {
		return k.Reason(uint32(-result)), false
	}
	return journey.ErrnoName(result), true
}

// Hidden implements naming.
func (k kernelNames) Hidden() bool { return k.symbols.Hidden() }

// FreesInChain implements naming. nft drops by NF_DROP_REASON(), which frees at
// once, since Linux 6.7 (net/netfilter/nf_tables_core.c); before that all drops
// are freed by nf_hook_slow(). No type or symbol tells, so the release has to.
func (k kernelNames) FreesInChain() bool { return k.kern.AtLeast(6, 7) }
