// SPDX-License-Identifier: Apache-2.0

// words.go says small things of the model in words: addresses, places, rules,
// causes of death, counts. The larger parts of the output are made of these.

package text

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// hostPort writes an address with its port; port 0 stands for none.
func hostPort(addr netip.Addr, port uint16) string {
	switch {
	case !addr.IsValid():
		return "?"
	case port == 0:
		return addr.String()
	}
	return netip.AddrPortFrom(addr, port).String()
}

// named writes an address with its port, and who has it where that is known.
func named(addr netip.Addr, port uint16, name string) string {
	if name == "" {
		return hostPort(addr, port)
	}
	return hostPort(addr, port) + " (" + glued(name) + ")"
}

// hostPorts writes a pair of addresses.
func hostPorts(e model.Endpoints) string {
	return named(e.Src, e.SrcPort, e.SrcName) + " > " + named(e.Dst, e.DstPort, e.DstName)
}

// place names a network namespace: as people call it, else by its inode.
func place(name string, netns uint32) string {
	switch {
	case name != "":
		return name
	case netns != 0:
		return glued("netns " + strconv.FormatUint(uint64(netns), 10))
	}
	return "?"
}

// device names an interface: its name, else its index, else nothing.
func device(name string, index uint32) string {
	switch {
	case name != "":
		return name
	case index != 0:
		return glued("ifindex " + strconv.FormatUint(uint64(index), 10))
	}
	return ""
}

// at names where a packet was: "node (cali123)".
func at(name string, netns uint32, iface string, index uint32) string {
	if dev := device(iface, index); dev != "" {
		return place(name, netns) + " (" + dev + ")"
	}
	return place(name, netns)
}

// table names a table: "filter", and with the family where that says more
// than IPv4 or IPv6: "inet/guard".
func table(family, name string) string {
	if name == "" || family == "" || family == "ip" || family == "ip6" {
		return name
	}
	return family + "/" + name
}

// cause says in half a sentence what a packet died of and where.
func cause(d *model.Drop) string {
	return d.Reason + " in " + spot(d) + " at " + at(d.Place, d.Netns, d.Interface, d.IfIndex)
}

// spot names the part of the stack a packet died in: "FORWARD/filter", else
// the hook, else the function.
func spot(d *model.Drop) string {
	name := table(d.Family, d.Table)
	switch {
	case d.Hook != "" && name != "":
		return d.Hook + "/" + name
	case d.Hook != "":
		return d.Hook
	case name != "":
		return name
	case d.Function != "":
		return symbol(d.Function)
	}
	return "a function that was not named"
}

// symbol cuts the offset off symbol+0x12.
func symbol(function string) string {
	name, _, _ := strings.Cut(function, "+0x")
	return name
}

// ruleName names a rule without its text: "7 of chain FORWARD in table filter".
func ruleName(r model.Rule) string {
	var b strings.Builder
	switch {
	case r.Number > 0:
		fmt.Fprintf(&b, "%d of ", r.Number)
	case r.Handle > 0:
		fmt.Fprintf(&b, "with handle %d of ", r.Handle)
	}
	fmt.Fprintf(&b, "chain %s in table %s", r.Chain, table(r.Family, r.Table))
	if r.Number > 0 && r.Handle > 0 {
		fmt.Fprintf(&b, " (handle %d)", r.Handle)
	}
	return b.String()
}

// colon writes a result or errno name behind a colon, or nothing.
func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// plural counts things: "1 hook", "2 hooks".
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + many
}

// millis writes nanoseconds since the packet's first hop: "+0.012 ms".
func millis(ns int64) string {
	return fmt.Sprintf("+%.3f"+glue+"ms", float64(ns)/1e6)
}

// clock writes the time of day with milliseconds.
func clock(t time.Time) string { return t.Format("15:04:05.000") }

// flow writes what a packet is: "TCP 10.0.0.1:1 > 10.0.0.2:80 [S]".
func flow(p *model.Packet) string {
	var b strings.Builder
	seen := model.Endpoints{Src: p.Src, SrcPort: p.SrcPort, SrcName: p.SrcName, Dst: p.Dst, DstPort: p.DstPort, DstName: p.DstName}
	fmt.Fprintf(&b, "%s %s", strings.ToUpper(p.Proto), hostPorts(seen))
	if p.TCPFlags != "" {
		fmt.Fprintf(&b, " [%s]", p.TCPFlags)
	}
	if p.ICMP != "" {
		fmt.Fprintf(&b, " %s", p.ICMP)
		if strings.HasPrefix(p.ICMP, "echo-") {
			fmt.Fprintf(&b, " id %d seq %d", p.ICMPID, p.ICMPSeq)
		}
	}
	return b.String()
}

// packetIDs writes ascending ids short: "#4", "#4-#9", "#3 #5 #8", "#3..#41".
func packetIDs(ids []uint64) string {
	first, last := ids[0], ids[len(ids)-1]
	switch {
	case len(ids) == 1:
		return fmt.Sprintf("#%d", first)
	case last-first == uint64(len(ids)-1):
		return fmt.Sprintf("#%d-#%d", first, last)
	case len(ids) <= 4:
		words := make([]string, len(ids))
		for i, id := range ids {
			words[i] = fmt.Sprintf("#%d", id)
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("#%d..#%d", first, last)
}
