// SPDX-License-Identifier: Apache-2.0

// Package cause says in words why packets of a trace died, or why they got no
// answer: finished packets and the state of the node go in, findings come out.
//
//	model.Packet -> Collector -> case (packets that died alike) -> table of causes -> model.Finding
//	                                     State (links, routes, sysctls, rules) ---^
//
// A trace's sink is wrapped by Collector.Sink; State is answered by Live on a
// node. Each cause is one small function (table.go). It is certain only where the
// kernel itself said so: by a drop reason, a rule seen matching, a route's error
// or an errno. Otherwise it is likely, and says what is missing.
package cause
