// SPDX-License-Identifier: Apache-2.0

package cause

// What a rule asks of a packet's header, read off its text: so that a rule that nearly
// takes a packet, or would have taken it, can be told from others.

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// fields are what a rule asks.
type fields struct {
	proto    string // "": any
	src, dst []netip.Prefix
	dports   [][2]uint16
	sets     []askedSet
	local    bool   // that the destination is an address of the node
	more     bool   // it asks for more than is read here, or for the contrary
	target   string // the chain or target that it jumps to
}

// askedSet is an ipset or nft set that a rule asks about addresses or ports.
type askedSet struct {
	name string
	of   string // what of the packet: "src", "dst", "dst,dst" with the port; "": not an ipset
}

func (s askedSet) String() string { return s.name }

// fieldsOf reads a rule as iptables-save or nft prints it.
func fieldsOf(text string) fields {
	words := strings.Fields(quoted.ReplaceAllString(text, `""`))
	if len(words) > 1 && words[0] == "-A" {
		return savedFields(words[2:])
	}
	return nftFields(words)
}

func savedFields(words []string) (f fields) {
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "!":
			f.more = true
			i += 2
		case "-p":
			f.proto = value
			i++
		case "-s", "-d":
			f.prefix(words[i] == "-s", value)
			i++
		case "--dport", "--dports":
			f.ports(strings.ReplaceAll(value, ":", "-"))
			i++
		case "--match-set":
			f.sets = append(f.sets, askedSet{value, strings.Join(words[min(i+2, len(words)):min(i+3, len(words))], "")})
			i += 2
		case "--dst-type":
			f.local, f.more = value == "LOCAL", f.more || value != "LOCAL"
			i++
		case "-m", "--comment":
			i++
		case "-j", "-g":
			f.target = value
			return f
		default:
			f.more = true
		}
	}
	return f
}

func nftFields(words []string) (f fields) {
	for i := 0; i < len(words); i++ {
		at := strings.Join(words[i:min(i+2, len(words))], " ")
		value, n := nftValue(words[min(i+2, len(words)):])
		switch at {
		case "meta l4proto", "ip protocol":
			f.proto = strings.Join(value, ",")
		case "ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr":
			for _, v := range value {
				f.prefix(strings.HasSuffix(at, "saddr"), v)
			}
		case "tcp dport", "udp dport", "sctp dport":
			f.proto = words[i]
			for _, v := range value {
				f.ports(v)
			}
		case "fib daddr":
			f.local = true
		default:
			switch words[i] {
			case "counter":
				if at == "counter packets" {
					i += 4
				}
				continue
			case "comment":
				i++
				continue
			case "jump", "goto":
				f.target = strings.Join(words[i+1:min(i+2, len(words))], "")
				return f
			case "accept", "drop", "return", "meta", "mark", "dnat", "redirect", "snat", "masquerade":
				f.target = words[i]
				return f
			}
			f.more = true
			continue
		}
		i += 1 + n
	}
	return f
}

// nftValue reads a value or a set of them, and says of how many words it is.
func nftValue(words []string) (values []string, n int) {
	if len(words) == 0 {
		return nil, 0
	}
	if words[0] != "{" {
		return words[:1], 1
	}
	for n = 1; n < len(words) && words[n] != "}"; n++ {
		values = append(values, strings.TrimSuffix(words[n], ","))
	}
	return values, n + 1
}

func (f *fields) prefix(source bool, value string) {
	if strings.HasPrefix(value, "@") {
		f.sets = append(f.sets, askedSet{name: value})
		return
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		a, err := netip.ParseAddr(value)
		if err != nil {
			f.more = true
			return
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if source {
		f.src = append(f.src, p)
	} else {
		f.dst = append(f.dst, p)
	}
}

func (f *fields) ports(list string) {
	for word := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(word, "-")
		a, err1 := strconv.ParseUint(first, 10, 16)
		b := a
		var err2 error
		if ranged {
			b, err2 = strconv.ParseUint(last, 10, 16)
		}
		if err1 != nil || err2 != nil {
			f.more = true
			return
		}
		f.dports = append(f.dports, [2]uint16{uint16(a), uint16(b)})
	}
}

// takesProto, takesPort, takesSource and takesDestination tell whether what it asks of
// that is so; what it does not ask always is.
func (f *fields) takesProto(proto string) bool {
	return f.proto == "" || slices.Contains(strings.Split(f.proto, ","), proto)
}

func (f *fields) takesPort(port uint16) bool {
	return len(f.dports) == 0 || slices.ContainsFunc(f.dports, func(r [2]uint16) bool { return r[0] <= port && port <= r[1] })
}

func (f *fields) takesSource(a netip.Addr) bool      { return within(f.src, a) }
func (f *fields) takesDestination(a netip.Addr) bool { return within(f.dst, a) }

func within(all []netip.Prefix, a netip.Addr) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}
