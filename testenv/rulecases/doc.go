// SPDX-License-Identifier: Apache-2.0

// Package rulecases proves that the rules pathtrace names are the rules that the
// kernel took. Its tests put rules of every kind in the way of single packets,
// run the built pathtrace as a user would, and compare what it says with the
// rule that was put there, with what iptables-save and nft print of it, and with
// what the kernel's own TRACE tells of the same packet.
//
//	            node (rules here)
//	client --- veth        veth --- server      routed: fwd, ret, in, out
//	   |                             |
//	   +---- eth1 -- br77 -- eth1 ---+          bridged
//
// Run by `make test`: the tracepoint backend natively, fentry in VMs.
package rulecases
