// SPDX-License-Identifier: Apache-2.0

// Package nft reads the nftables rule sets of a network namespace over netlink,
// prints their rules as `nft -a list ruleset` does (version 1.0.6, without
// handles and counter values), finds elements of sets and maps, and tells which
// rules a packet would match.
//
// The messages are decoded here and not by a library: google/nftables asks once
// per chain and once per set, drops what it does not know (the blobs of xt
// matches and targets above all, which most rules on a node with iptables-nft
// consist of), and does not say whether a commit fell in between. Here it is
// one dump per kind of object, plus one per set for its elements, which the
// kernel lists no other way (net/netfilter/nf_tables_api.c,
// nf_tables_dump_set), and the generation of the rule set is compared before
// and after.
//
// Nothing in here loads nf_tables: whoever calls makes sure that it is there.
//
// The way through: reader.go asks, decode.go and the decode_*.go files make
// types (types.go, expr.go) of the answers, statements.go joins a rule's
// expressions to statements as a person would write them, deduce.go, match.go and
// mask.go name header fields and drop what nft leaves out, print.go and the
// write*.go files write text, element.go searches sets, walk.go, eval.go,
// facts.go and machine.go run a packet through.
package nft
