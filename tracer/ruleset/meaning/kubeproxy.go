// SPDX-License-Identifier: Apache-2.0

// What kube-proxy's rules mean: which service, and what is wrong with it.

package meaning

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// service is what a hash in a chain's name stands for.
type service struct {
	name     string
	endpoint string // of a KUBE-SEP- chain
}

// kubePrefixes begin the names of a service's chains in iptables mode; the hash
// follows (pkg/proxy/iptables/proxier.go; KUBE-XLB- in older versions).
var kubePrefixes = [...]string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-", "KUBE-SEP-"}

// kubeNFTPrefixes begin them in nftables mode (pkg/proxy/nftables/proxier.go).
var kubeNFTPrefixes = [...]string{"service-", "local-", "external-", "firewall-", "endpoint-"}

// serviceName is namespace/name[:port] as kube-proxy's comments have it.
var serviceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`)

// kubeCauses are rules known by their comment or their map.
var kubeCauses = [...]struct {
	comment, nftMap, verdict string // nftMap with the element's verdict, "": any
	kind                     Kind
	what                     string // %s: the service
}{
	{" has no endpoints", "", "", NoEndpoints, "%s has no endpoints"},
	{" has no local endpoints", "", "", NoLocalEndpoints, "%s has no endpoints on this node, and its traffic policy is Local"},
	{" traffic not accepted by KUBE-FW-", "", "", SourceRange, "its source is not among the loadBalancerSourceRanges of %s"},
	{"Reject traffic to invalid ports of ClusterIPs", "", "", ServicePort, "its destination is the cluster IP of a service, but none of its ports"},
	{"Drop traffic to unallocated ClusterIPs", "", "", NoService, "its destination is in the service range, but no service has that address"},
	{"block incoming localnet connections", "", "", Localnet, "a loopback address from another host"},
	{"", "no-endpoint-services", "drop", NoLocalEndpoints, "%s has no endpoints on this node, and its traffic policy is Local"},
	{"", "no-endpoint-nodeports", "drop", NoLocalEndpoints, "%s has no endpoints on this node, and its traffic policy is Local"},
	{"", "no-endpoint-services", "goto", NoEndpoints, "%s has no endpoints"},
	{"", "no-endpoint-nodeports", "goto", NoEndpoints, "%s has no endpoints"},
	{"", "no-endpoint-services", "", NoEndpoints, "%s has no endpoints that packets may go to from here"},
	{"", "no-endpoint-nodeports", "", NoEndpoints, "%s has no endpoints that packets may go to from here"},
}

func explainKubeProxy(r *reading, m *Meaning) bool {
	k := kubeReading{reading: r}
	at, kind, what := k.cause()
	if what == "" {
		return k.translated(m)
	}
	m.Kind, m.Service = kind, k.serviceOf(at)
	m.What = strings.ReplaceAll(what, "%s", calledService(m.Service))
	m.Sentence = fmt.Sprintf("kube-proxy %s: %s", k.verb(), m.What)
	return true
}

func calledService(name string) string {
	if name == "" {
		return "the service at its destination"
	}
	return "service " + name
}

// kubeReading is a path that one of kube-proxy's rules decided.
type kubeReading struct{ *reading }

// cause finds the rule that tells why, and the reason's kind and words.
func (k kubeReading) cause() (at int, kind Kind, what string) {
	at = k.last()
	rule, action := k.rule(), k.action()
	if action == "reject" && rule.Chain == "reject-chain" && at > 0 {
		at-- // what a map's verdict led to
	}
	told := k.lines[at]
	verdict := action // of the map's element
	if at != k.last() {
		verdict = "goto"
	}
	for _, c := range kubeCauses {
		switch {
		case c.comment != "" && strings.Contains(strings.Join(told.comments, "; "), c.comment),
			c.nftMap != "" && told.action == "map" && told.target == c.nftMap && (c.verdict == "" || c.verdict == verdict):
			return at, c.kind, c.what
		}
	}
	deciding := action == "drop" || action == "reject"
	switch {
	case deciding && strings.HasPrefix(rule.Chain, "firewall-") && rule.Table == "kube-proxy":
		return k.last(), SourceRange, "its source is not among the loadBalancerSourceRanges of %s"
	case deciding && rule.Chain == "KUBE-IPVS-FILTER": // what IPVS has no service for (pkg/proxy/ipvs/proxier.go, 1.27)
		return k.last(), ServicePort, "its destination is the address of a service, but none of its ports"
	case deciding && k.isInvalidTest():
		return k.last(), Invalid, invalidReason
	case deciding && rule.Chain == "KUBE-FIREWALL" && k.reading.cause() > 0:
		return k.marked()
	}
	return at, "", ""
}

// marked tells of packets that were marked for dropping: in older versions a load
// balancer's chain did so with sources outside its ranges (KUBE-MARK-DROP).
func (k kubeReading) marked() (at int, kind Kind, what string) {
	for at = k.reading.cause() - 1; at >= 0; at-- {
		if strings.HasPrefix(k.path.Rules[at].Chain, "KUBE-FW-") && k.lines[at].target == "KUBE-MARK-DROP" {
			return at, SourceRange, "its source is not among the loadBalancerSourceRanges of %s"
		}
	}
	return k.last(), "", ""
}

// translated tells of a rule that sends a service's packets to an endpoint.
func (k kubeReading) translated(m *Meaning) bool {
	l := k.line()
	if l.target != "DNAT" && l.target != "dnat" {
		return false
	}
	m.Kind, m.Service = Translation, k.serviceOf(k.last())
	m.What = "an endpoint of " + calledService(m.Service)
	if to := k.destination(); to != "" {
		m.What = to + ", " + m.What
	}
	m.Sentence = "kube-proxy sends it to " + m.What
	return true
}

// destination is the endpoint that the deciding rule sends packets to: as the
// rule says, or as its chain's name does. A rule with several has none.
func (k kubeReading) destination() string {
	words := k.line().words
	for i := 1; i < len(words); i++ {
		if to, err := netip.ParseAddrPort(words[i].text); err == nil && (words[i-1].is("to") || words[i-1].is("--to-destination")) {
			return to.String()
		}
	}
	hash, _ := strings.CutPrefix(k.rule().Chain, "KUBE-SEP-")
	return k.book.serviceHashes()[hash].endpoint
}

// serviceOf names the service of the rule at i: by its element's or its own
// comment, by its chain, by the chain of whatever led there.
func (k kubeReading) serviceOf(i int) string {
	rule := k.path.Rules[i]
	if comment, _ := elementOf(rule.Element); comment != "" {
		if s := serviceIn(comment); s != "" {
			return s
		}
	}
	for _, c := range k.lines[i].comments {
		if s := serviceIn(c); s != "" {
			return s
		}
	}
	if s := k.serviceOfChain(rule); s != "" {
		return s
	}
	return k.serviceOfHash(k.lines[i].target)
}

// serviceOfChain names the service of a chain: nftables mode has it in the name,
// iptables mode in comments, or else hashed in the name.
func (k kubeReading) serviceOfChain(rule Rule) string {
	if rule.Table == "kube-proxy" {
		return serviceOfNFTChain(rule.Chain)
	}
	if !isKubeServiceChain(rule.Chain) {
		return ""
	}
	for _, r := range k.chain(rule) {
		for _, c := range parseLine(r).comments {
			if s := serviceIn(c); s != "" {
				return s
			}
		}
	}
	return k.serviceOfHash(rule.Chain)
}

func (k kubeReading) serviceOfHash(chain string) string {
	for _, prefix := range kubePrefixes {
		if hash, ok := strings.CutPrefix(chain, prefix); ok {
			return k.book.serviceHashes()[hash].name
		}
	}
	return ""
}

func isKubeServiceChain(chain string) bool {
	for _, prefix := range kubePrefixes {
		if strings.HasPrefix(chain, prefix) {
			return true
		}
	}
	return false
}

// serviceOfNFTChain reads "service-YU5CZIXF-demo/one/tcp/" and its like.
func serviceOfNFTChain(chain string) string {
	for _, prefix := range kubeNFTPrefixes {
		rest, ok := strings.CutPrefix(chain, prefix)
		if !ok {
			continue
		}
		rest, _, _ = strings.Cut(rest, "__") // an endpoint's address
		_, name, _ := strings.Cut(rest, "-")
		f := strings.Split(name, "/")
		if len(f) != 4 {
			return ""
		}
		return Service{Namespace: f[0], Name: f[1], Port: f[3]}.String()
	}
	return ""
}

// serviceIn finds the service in a comment: "demo/one has no endpoints",
// "masquerade traffic for prod/lb:https external destinations".
func serviceIn(comment string) string {
	for _, w := range strings.Fields(comment) {
		if w = strings.TrimSuffix(w, ":"); serviceName.MatchString(w) { // "demo/one:" in older versions
			return w
		}
	}
	return ""
}

// serviceHashes are the known services by what stands in chain names, made when
// first asked for: most paths bear comments.
func (b *Book) serviceHashes() map[string]service {
	b.hashOnce.Do(func() {
		b.services = make(map[string]service, 2*len(b.known.Services))
		for _, s := range b.known.Services {
			b.services[KubeServiceHash(s)] = service{name: s.String()}
			for _, e := range s.Endpoints {
				b.services[KubeEndpointHash(s, e)] = service{name: s.String(), endpoint: e}
			}
		}
	})
	return b.services
}
