// SPDX-License-Identifier: Apache-2.0

// Package meaning tells what a rule is called by people: who wrote it, which
// policy or service it stands for, whose traffic it is about, and one sentence
// for a ticket. In go the rules that matched, in order, as plain text; out comes
// a Meaning. It reads chain names, comments and marks, and knows nothing of
// kernels, sockets or clusters.
//
// What is told is read off the rules or off names the caller supplied; a name
// that is not known is left out, never guessed.
//
// Conventions of the writers are cited where they are used. Calico's are those
// of Felix up to 3.34 (felix/rules), kube-proxy's those of Kubernetes up to 1.36
// (pkg/proxy).
package meaning

import "sync"

// Rule is one rule as it was read from a node.
type Rule struct {
	Backend string // legacy or nft
	Family  string // ip, ip6, inet, arp, bridge, netdev
	Table   string
	Chain   string
	Number  int // from 1 within its chain; 0: not known, or the chain's policy
	// Text is the line that iptables-save or nft prints. Of a chain's policy it
	// is the chain's line: ":FORWARD DROP [0:0]", or "policy drop" within nft's.
	Text string
	// Comments holds what Text does not show. Comments in Text need not be
	// repeated.
	Comments []string
	// Element is the element of a verdict map that decided, as nft prints it:
	// `10.96.10.7 . tcp . 80 comment "demo/shop" : drop`. Empty: none, or not
	// known.
	Element string
}

// Path is the way of one packet through rules: those that matched, in order, the
// one that decided last. It may begin at any earlier hook; the more of it is
// there, the more can be told (marks are set in one table and tested in another).
type Path struct {
	Rules []Rule
	// Verdict is what the kernel returned, where that was seen: drop, reject or
	// accept. It is asked only where the deciding rule does not say: at a verdict
	// map.
	Verdict string
	// In and Out are the interfaces at the deciding hook; empty: none, or not
	// known.
	In, Out string
}

// Service is one port of a Kubernetes service.
type Service struct {
	Namespace string
	Name      string
	Port      string   // the port's name; empty for an unnamed port
	Proto     string   // tcp, udp, sctp, in any case
	Endpoints []string // "ip:port", IPv6 in brackets
}

// String is the service's name as kube-proxy's comments have it:
// namespace/name[:port].
func (s Service) String() string {
	name := s.Namespace + "/" + s.Name
	if s.Port != "" {
		name += ":" + s.Port
	}
	return name
}

// Known is what the caller knows of the cluster and the node. All of it is
// optional.
type Known struct {
	// Policies are kind and name: "NetworkPolicy default/allow-web",
	// "GlobalNetworkPolicy deny-all", "KubernetesNetworkPolicy default/web".
	// They undo the hashes in the names of long chains. One without a kind is
	// taken for Felix' id: "np/default/allow-web".
	Policies []string
	Services []Service
	// Endpoints maps a host interface to the pod behind it (namespace/name).
	Endpoints map[string]string
	// Chain returns all rules of the chain that r is in, in order, or nil. Names
	// often stand in the comment of a chain's first rule, which the packet did
	// not match.
	Chain func(r Rule) []Rule
}

// Kind says what sort of thing decided.
type Kind string

// Kinds.
const (
	PolicyDeny       Kind = "policy-deny"       // a policy's rule denies
	TierEnd          Kind = "tier-end"          // policies apply, none of them allowed it
	NoProfile        Kind = "no-profile"        // no policy applies and no profile allowed it
	PolicyAllow      Kind = "policy-allow"      // a policy or profile allowed it
	UnknownInterface Kind = "unknown-interface" // the writer has no endpoint for the interface
	AdminDown        Kind = "admin-down"        // the endpoint is switched off in the writer's data
	ReversePath      Kind = "reverse-path"      // a rule checks the way back to the source
	Invalid          Kind = "conntrack-invalid" // a rule drops what conntrack calls invalid
	TunnelHost       Kind = "tunnel-host"       // tunnel packet from a host that is no node
	TunnelPod        Kind = "tunnel-pod"        // tunnel packet made by a pod
	ServiceLoop      Kind = "service-loop"      // service address that was not translated
	PodToHost        Kind = "pod-to-host"       // what pods may send to their own node
	NoEndpoints      Kind = "no-endpoints"      // a service has no endpoints
	NoLocalEndpoints Kind = "no-local-endpoints"
	SourceRange      Kind = "source-range" // the source is outside a load balancer's ranges
	ServicePort      Kind = "service-port" // a cluster IP, but none of its ports
	NoService        Kind = "no-service"   // a cluster IP of no service
	Localnet         Kind = "localnet"     // loopback address from elsewhere
	Isolation        Kind = "isolation"    // networks that the writer keeps apart
	ChainPolicy      Kind = "chain-policy" // no rule decided, the chain's policy did
	Translation      Kind = "translation"  // an address was rewritten
	PlainRule        Kind = "rule"         // any other rule
)

// Meaning is what the deciding rule of a path means. A field that is empty is
// not known or does not apply.
type Meaning struct {
	Owner  Owner
	Kind   Kind
	Action string // drop, reject, accept, return, continue, jump, goto, queue, nat, map
	// Policy is the policy's name as users know it (namespace/name, or name of a
	// global one); PolicyKind its kind as in the API (NetworkPolicy,
	// GlobalNetworkPolicy, KubernetesNetworkPolicy, Profile, ...). If a name could
	// not be had it is empty and Chain of the rule is all there is.
	Policy     string
	PolicyKind string
	// Policies are all that apply where more than one, or none, has a say (end of
	// a tier), in order: kind and name as people say it.
	Policies  []string
	Tier      string
	Direction string // ingress or egress, as seen from the endpoint
	Endpoint  string // namespace/name of the pod
	Interface string // the endpoint's host interface
	Service   string // namespace/name[:port]
	// What is the reason in a few words.
	What string
	// Cause is the rule that set the mark which the deciding rule only tested.
	Cause *Rule
	// Sentence is one sentence for a ticket. "It" is the packet.
	Sentence string
}

// Book explains rules. It holds the known names, hashed, and no state of a
// packet; its methods may be called concurrently.
type Book struct {
	known    Known
	policies map[string]policy // by the tail of the chain's name

	hashOnce sync.Once // services are hashed when the first name is asked for
	services map[string]service
}

// NewBook makes a book of the names that are known.
func NewBook(known Known) *Book {
	return &Book{known: known, policies: policyTails(known.Policies)}
}

// Explain tells what the last rule of a path means. An empty path has an empty
// meaning.
func (b *Book) Explain(p Path) Meaning {
	if len(p.Rules) == 0 {
		return Meaning{}
	}
	r := b.read(p)
	m := Meaning{Owner: OwnerOf(r.rule()), Action: r.action()}
	if cause := r.cause(); cause >= 0 {
		m.Cause = &r.path.Rules[cause]
	}
	if r.isPolicy() {
		explainChainPolicy(r, &m)
		return m
	}
	for _, e := range explainers {
		if e.owner == m.Owner && e.explain(r, &m) {
			return m
		}
	}
	explainPlain(r, &m)
	return m
}

// explainers are the writers whose rules mean more than they say, each with
// what tells it. One that does not know a rule leaves it to explainPlain.
var explainers = [...]struct {
	owner   Owner
	explain func(*reading, *Meaning) bool
}{
	{Calico, explainCalico},
	{KubeProxy, explainKubeProxy},
	{KubeRouter, explainKubeRouter},
	{Docker, explainDocker},
}
