// SPDX-License-Identifier: Apache-2.0

package xt

// Names of IP protocols. iptables-save has a few of its own and asks the node's
// /etc/protocols for the rest; here that is the list of Debian's netbase, so that
// a rule reads the same on every node.

import "strconv"

// protocolName is what iptables-save prints behind -p: iptables' own name, else
// the system's, else the number.
func protocolName(proto uint16) string {
	own := map[uint16]string{
		protoTCP: "tcp", protoSCTP: "sctp", protoUDP: "udp", protoUDPLite: "udplite", protoICMP: "icmp",
		protoICMPv6: "ipv6-icmp", protoESP: "esp", protoAH: "ah", protoMH: "mobility-header",
	}
	if name, ok := own[proto]; ok {
		return name
	}
	if proto > 255 {
		return strconv.Itoa(int(proto))
	}
	return systemProtocol(uint8(proto))
}

// systemProtocol is the name in /etc/protocols, else the number.
func systemProtocol(proto uint8) string {
	if name, ok := map[uint8]string{
		0: "ip", 1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp",
		12: "pup", 17: "udp", 20: "hmp", 22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp",
		37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag", 45: "idrp", 46: "rsvp",
		47: "gre", 50: "esp", 51: "ah", 57: "skip", 58: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts",
		73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip",
		98: "encap", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp",
		133: "fc", 135: "mobility-header", 136: "udplite", 137: "mpls-in-ip", 138: "manet", 139: "hip",
		140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
	}[proto]; ok {
		return name
	}
	return strconv.Itoa(int(proto))
}
