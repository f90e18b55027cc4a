// SPDX-License-Identifier: Apache-2.0

// Package watch tells how the node changes during a trace, and who changes it.
//
//	netlink notifications -> change ─┐
//	                                 ├─ join -> model.NodeEvent -> Teller -> output
//	kernel half (bpf/node.h) -> Deed ┘             └-> causes
//
// What changed is what the kernel's netlink says: of links, routes, policy
// routing, addresses, nft rules and some sysctls, in the node's namespace and in
// its pods'. Who did it, and what netlink does not tell (legacy tables, other
// sysctls, signals and ends of processes), are Deeds, as far as the backend in
// use sees them. The Teller puts events in order with the packets, folds what
// happens again and again, and leaves out what is no business of the flow.
package watch
