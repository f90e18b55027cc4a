// SPDX-License-Identifier: Apache-2.0

// Package testenv is where the rooms of the test environment meet: its tests
// build every kind of node, break it in every way and listen to what the sender
// and the kernel say of it, without the tracer. The rooms, each of which knows
// those below it only:
//
//	scenario, rulecases, bench, cmd/...   what is made of them: tests, benchmark, demo
//	story                                 the table of scenarios, and what must be said of each
//	fault                                 ways to break a node, and to mend it
//	traffic                               exchanges and floods, and what became of them
//	cluster                               nodes, pods, services and the network between them
//	owner  echo                           whose a namespace is; servers in one
//	netns  socket  proc                   what the kernel is asked: namespaces, sockets, processes
//
// Beside them stand vm, which runs the same tests on other kernels, matrix, which
// sums up what they print, and apiserver, a real Kubernetes API server.
package testenv
