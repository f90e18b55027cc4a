// SPDX-License-Identifier: Apache-2.0

package nfnetlink

import "fmt"

// Hooks of IP packets, and of a bridge's: enum nf_inet_hooks,
// include/uapi/linux/netfilter.h.
const (
	PreRouting  = 0
	LocalIn     = 1
	Forward     = 2
	LocalOut    = 3
	PostRouting = 4
)

// Hooks names the hooks of a packet family by number: enum nf_inet_hooks,
// nf_arp_hooks, nf_dev_hooks; NF_BR_BROUTING.
func Hooks(family string) []string {
	switch family {
	case "arp":
		return []string{"INPUT", "OUTPUT", "FORWARD"}
	case "netdev":
		return []string{"INGRESS", "EGRESS"}
	case "bridge":
		return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"}
	}
	return []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "INGRESS"}
}

// Hook names one of them, if need be by its number.
func Hook(family string, num int) string {
	if names := Hooks(family); num >= 0 && num < len(names) {
		return names[num]
	}
	return fmt.Sprintf("hook %d", num)
}
