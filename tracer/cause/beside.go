// SPDX-License-Identifier: Apache-2.0

package cause

// A service's address asked beside its ports: kube-proxy translates what is for the ports
// of a service, and nothing else that is for its address. Told as service-untranslated.

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// offer is what a rule, or IPVS, takes of what is for a service's address.
type offer struct {
	proto string // "": all
	ports string // as the rule has them; "": all
	name  string // of the service, where a comment tells; or ""
	said  string // the line that tells
	// cluster: the comment calls it a cluster IP, which no host has.
	cluster bool
}

// besideRule are the words by which a rule takes what is for one address: as
// iptables-save prints it, and as nft does.
var (
	iptablesOffer = regexp.MustCompile(`^-A \S+ (?:[^!]* )?-d (\S+) (?:-p (\w+) )?(.*)-j (?:DNAT|KUBE-SVC-\S+|KUBE-EXT-\S+|KUBE-FW-\S+|KUBE-XLB-\S+|REJECT)(?: |$)`)
	nftOffer      = regexp.MustCompile(`^(?:ip6?) daddr (\S+) (tcp|udp|sctp) dport (\S+) .*(?:dnat|goto|jump)(?: |$)`)
	offeredPorts  = regexp.MustCompile(`--dports? (\S+)`)
	commentNames  = regexp.MustCompile(`--comment "?([a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*(?::[-a-z0-9]+)?)`)
)

// offerOf reads a rule; ok is false if it is none that sends an address of its own to a
// backend, or refuses what is for a service without one.
func offerOf(r meaning.Rule, addr netip.Addr) (o offer, ok bool) {
	o.said = namedRule(ruleOf(r)) + ": " + r.Text
	if m := nftOffer.FindStringSubmatch(r.Text); m != nil && m[1] == addr.String() {
		o.proto, o.ports = m[2], m[3]
		return o, true
	}
	m := iptablesOffer.FindStringSubmatch(r.Text)
	if m == nil || m[1] != netip.PrefixFrom(addr, addr.BitLen()).String() {
		return o, false
	}
	refuses := strings.Contains(r.Text, "-j REJECT")
	if refuses && !strings.Contains(r.Text, "has no") || !refuses && r.Table != "nat" || strings.Contains(m[3], "! --dport") {
		return o, false
	}
	o.proto, o.cluster = m[2], strings.Contains(r.Text, "cluster IP")
	if o.proto == "all" {
		o.proto = ""
	}
	if p := offeredPorts.FindStringSubmatch(m[3]); p != nil {
		o.ports = p[1]
	}
	if n := commentNames.FindStringSubmatch(r.Text); n != nil {
		o.name = n[1]
	}
	return o, true
}

// takes tells whether a packet's protocol and port are among what is offered; also where
// its words are not understood.
func (o offer) takes(p *model.Packet) bool {
	if o.proto == "" {
		return true
	}
	if o.proto != p.Proto {
		return false
	}
	if o.ports == "" {
		return true
	}
	for word := range strings.SplitSeq(strings.Trim(o.ports, "{}"), ",") {
		first, last, isRange := strings.Cut(strings.ReplaceAll(word, "-", ":"), ":")
		var from, upto uint16
		if n, _ := fmt.Sscan(first, &from); n != 1 {
			return true
		}
		if upto = from; isRange {
			if n, _ := fmt.Sscan(last, &upto); n != 1 {
				return true
			}
		}
		if from <= p.DstPort && p.DstPort <= upto {
			return true
		}
	}
	return false
}

func (o offer) words() string {
	switch {
	case o.proto == "":
		return "all protocols"
	case o.ports == "":
		return o.proto
	}
	return o.proto + " port " + o.ports
}

// offersOf lists what the rules and IPVS of a namespace take of what is for an address.
func (q *inquiry) offersOf(netns uint32, addr netip.Addr) (all []offer) {
	sets, err := q.state.Rules(netns)
	q.gap(err)
	if err != nil {
		return nil
	}
	for r := range sets.All() {
		if o, ok := offerOf(r, addr); ok {
			all = append(all, o)
		}
	}
	services, err := q.state.VirtualServices(netns)
	q.gap(err)
	for _, s := range services {
		if s.Mark == 0 && s.Addr.Addr() == addr {
			o := offer{proto: s.Proto, said: "ipvsadm -Ln: " + s.String()}
			if s.Addr.Port() != 0 {
				o.ports = itoa(uint64(s.Addr.Port()))
			}
			all = append(all, o)
		}
	}
	return all
}

// askedBeside: the address is a service's, and what was asked for is none of its ports.
func askedBeside(q *inquiry, p *peer) *claim {
	self, addr := q.state.Node(), p.far.Addr()
	if lastTranslation(q.p) != nil || q.mem.translatedBefore(p.far) != nil || q.holds(self, addr) || q.sentByIPVS() != nil {
		return nil
	}
	offers := q.offersOf(self, addr)
	if len(offers) == 0 || slices.ContainsFunc(offers, func(o offer) bool { return o.takes(q.p) }) {
		return nil
	}
	var has, names, said []string
	for _, o := range offers {
		if !slices.Contains(has, o.words()) {
			has, said = append(has, o.words()), append(said, o.said)
		}
		if o.name != "" && !slices.Contains(names, o.name) {
			names = append(names, o.name)
		}
	}
	asked := q.p.Proto
	if q.p.DstPort != 0 {
		asked = fmt.Sprintf("%s port %d", q.p.Proto, q.p.DstPort)
	}
	of := "a service"
	if len(names) > 0 {
		of += " (" + strings.Join(names[:min(len(names), alsoShown)], ", ") + ")"
	}
	ports := strings.Join(has[:min(len(has), alsoShown)], ", ")
	if more := len(has) - alsoShown; more > 0 {
		ports += fmt.Sprintf(" and %d more", more)
	}
	c := &claim{subject: addr.String() + asked, summary: fmt.Sprintf("%s is the address of %s, of which this node translates %s only, not %s: such packets leave by %s as they are, and no answer came", addr, of, ports, asked, q.wayOut())}
	c.evidence = said[:min(len(said), alsoShown)]
	q.tellSent(c)
	if p.icmp != "" {
		c.summary = strings.Replace(c.summary, "no answer came", "nothing but an ICMP error came back", 1)
		c.evidence = append(c.evidence, "an ICMP error came back: "+p.icmp)
	}
	c.missing = []string{"that nothing out there was to answer for " + addr.String() + " (a load balancer that has it)"}
	if slices.ContainsFunc(offers, func(o offer) bool { return o.cluster }) {
		c.missing = []string{"that no host out there has " + addr.String() + ": a cluster IP is an address of rules, no interface has it"}
	}
	c.fix = []string{fmt.Sprintf("ask what the service has: %s of %s", ports, addr)}
	if strings.HasPrefix(q.p.Proto, "icmp") {
		c.fix = append(c.fix, "a service's address need not answer ping: that it does not says nothing of the service")
	} else {
		c.fix = append(c.fix, fmt.Sprintf("if it is to have %s: add the port to the service, by its own number and protocol (kubectl get svc -A -o wide | grep -w %s); a pod's port, or a node port, is none of the service's address", asked, addr))
	}
	return c
}
