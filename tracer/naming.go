// SPDX-License-Identifier: Apache-2.0

// What the assembler asks the kernel knowledge for: names behind numbers.

package tracer

// Reason implements naming.
func (t *Tracer) Reason(code uint32) string { return t.kern.DropReasons().Name(code) }

// Symbol implements naming.
func (t *Tracer) Symbol(addr uint64) string { return t.symbols.Format(addr) }

// Function implements naming.
func (t *Tracer) Function(fn uint8) string { return t.fns[fn] }

// RouteReason implements naming: what a negative result of source validation
// means. Since ip_route_input_slow() returns drop reasons instead of an errno
// (its type says which), fib_validate_source() returns them negated.
func (t *Tracer) RouteReason(result int32) (reason string, isErrno bool) {
	if t.kern.ReturnsEnum("ip_route_input_slow") {
		return t.Reason(uint32(-result)), false
	}
	return errnoName(result), true
}

// Hidden implements naming.
func (t *Tracer) Hidden() bool { return t.symbols.Hidden() }

// FreesInChain implements naming. nft drops by NF_DROP_REASON(), which frees at
// once, since Linux 6.7 (net/netfilter/nf_tables_core.c); before that all drops
// are freed by nf_hook_slow(). No type or symbol tells, so the release has to.
func (t *Tracer) FreesInChain() bool { return t.kern.AtLeast(6, 7) }
