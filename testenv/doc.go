// SPDX-License-Identifier: Apache-2.0

// Package testenv lets traffic run on the nodes of package cluster, breaks them
// on purpose and mends them again. Tests, the demo and the benchmarks stand on
// it, on this machine and inside the test VMs alike.
package testenv
