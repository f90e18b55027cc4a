// SPDX-License-Identifier: Apache-2.0

// Package bench measures what a trace costs: the traffic of others on the same
// node, the traced flow itself, and the machine. It stands on the test nodes of
// testenv, runs the built programs as a user would, and compares slots with and
// without them that lie side by side in time, so that a busy machine spoils
// neither the one nor the other.
//
//	+--------------- node1 (Calico, rules of so many endpoints) -------------+
//	|  client   server            the traced flow, a packet now and then     |
//	|  bench1 ============> bench2   the measured traffic: it is nobody's    |
//	|  bench3 ... benchN             only there: veths, routes, rules        |
//	+------------------------------------------------------------------------+
//
//	nothing | tool 1 | nothing | tool 2 | nothing | ... (a round) | tool 1 ...
//
// Every tool's slot is compared with the two slots of nothing beside it; a
// result is the median over the rounds, its spread what the rounds gave.
//
// Two rates are told. The rate by the clock is what a user would see on a
// machine of his own. The rate by CPU time takes the time that the threads had a
// CPU, softirqs on top of them included, in the best part of each slot: where
// others use the same machine it is the steadier one. They agree on an idle
// machine.
package bench
