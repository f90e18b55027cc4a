// SPDX-License-Identifier: Apache-2.0

package cause

// A rule of TPROXY that found no socket: no-listener.

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// tproxyTarget is the target as iptables-save prints it, with its port.
var tproxyTarget = regexp.MustCompile(`-j TPROXY .*--on-port (\d+)`)

// tproxyUnheard: TPROXY hands a packet to a socket that listens on a port of this
// namespace, whatever its destination, and drops it where there is none, or none that
// is transparent (tproxy_tg4 and tproxy_tg6_v1, net/netfilter/xt_TPROXY.c, 6.12). nft's
// own statement only ends its rule then (nft_tproxy_eval_v4: NFT_BREAK).
func tproxyUnheard(q *inquiry) *claim {
	if q.d.Hook != "PREROUTING" || q.p.Outcome != model.Dropped || q.p.Proto != "tcp" && q.p.Proto != "udp" {
		return nil
	}
	rule, port, sure := q.tproxyRule()
	if rule == nil {
		return nil
	}
	listens := false
	if q.p.Proto == "tcp" {
		sockets, err := q.state.Sockets(q.d.Netns)
		q.gap(err)
		for _, s := range sockets {
			listens = listens || s.State == node.TCPListen && s.Local.Port() == port
		}
	}
	name := ruleName(&model.Drop{Rule: rule})
	c := &claim{certain: sure && !listens && q.p.Proto == "tcp", subject: rule.Text, evidence: []string{q.where(), name + ": " + rule.Text}}
	c.summary = fmt.Sprintf("%s hands it to %s port %d of %s by TPROXY, and nothing listens there: so the rule drops it", name, q.p.Proto, port, q.place())
	switch {
	case listens:
		c.summary = fmt.Sprintf("%s hands it to %s port %d of %s by TPROXY, and drops it: what listens there now did not then, or is not transparent (IP_TRANSPARENT)", name, q.p.Proto, port, q.place())
		c.evidence = append(c.evidence, fmt.Sprintf("a socket listens on tcp port %d there", port))
	case q.p.Proto == "tcp":
		c.evidence = append(c.evidence, fmt.Sprintf("no socket listens on tcp port %d there", port))
	default:
		c.missing = append(c.missing, "whether a socket has that port: udp sockets are not read")
	}
	if !sure {
		c.missing = append(c.missing, "that it was this rule: it was found in the rule set, and no other is known to have ended it there")
	}
	c.fix = []string{fmt.Sprintf("see whether the proxy that is to listen on port %d runs: its container's state and log (a service mesh's sidecar); ss -ln%s in %s", port, q.p.Proto[:1], q.place()),
		"if it is up: it has to listen with IP_TRANSPARENT, which takes CAP_NET_ADMIN",
		"leave the rule: it is written again with the pod (istio-init, istio-cni)"}
	return c
}

// tproxyRule is the rule of TPROXY that ended it: seen, else the only one in the
// namespace that is for its protocol and, where it says so, its port.
func (q *inquiry) tproxyRule() (rule *model.Rule, port uint16, sure bool) {
	if r := q.d.Rule; r != nil {
		if port = tproxyPort(r.Text); port == 0 {
			return nil, 0, false
		}
		return r, port, q.d.RuleSource == model.RuleExact
	}
	sets, err := q.state.Rules(q.d.Netns)
	q.gap(err)
	e := endsAt(q.p)
	for r := range sets.All() {
		to := tproxyPort(r.Text)
		if to == 0 || (r.Family == "ip6") != q.ipv6() && r.Family != "inet" || !mayFit(r, q.p.Proto, e.DstPort) {
			continue
		}
		if rule != nil {
			return nil, 0, false // which of them is not known
		}
		rule, port = &model.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Number: r.Number, Text: r.Text}, to
	}
	return rule, port, false
}

func tproxyPort(text string) uint16 {
	m := tproxyTarget.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	port, _ := strconv.ParseUint(m[1], 10, 16) // digits, as the form says
	return uint16(port)
}

// mayFit leaves out rules that are for another protocol or a single other port.
func mayFit(r meaning.Rule, proto string, port uint16) bool {
	words := strings.Fields(r.Text)
	for i, w := range words[:max(0, len(words)-1)] {
		next := words[i+1]
		switch {
		case i > 0 && words[i-1] == "!":
		case w == "-p" && next != proto:
			return false
		case w == "--dport":
			if n, err := strconv.ParseUint(next, 10, 16); err == nil && uint16(n) != port {
				return false
			}
		}
	}
	return true
}
