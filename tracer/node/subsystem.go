// SPDX-License-Identifier: Apache-2.0

package node

// HasNFT tells whether nf_tables is there to be asked. Asking would load it
// where it is not.
func (n *Namespaces) HasNFT() (bool, error) { return n.has(nftSubsystem) }
