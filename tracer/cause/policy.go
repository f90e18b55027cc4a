// SPDX-License-Identifier: Apache-2.0

package cause

// Rules of Calico's that mean more than they say: what to do about a policy, an
// endpoint that is not known, a source that may not be.

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

// policyFix shows the policies that had a say.
func policyFix(q *inquiry, m meaning.Meaning) (fix []string) {
	switch {
	case m.Kind == meaning.AdminDown:
		return []string{"see why the endpoint is switched off: calicoctl get workloadendpoint -A -o yaml"}
	case m.Owner == meaning.KubeRouter:
		fix = []string{"see the policies of the pod's namespace: kubectl get networkpolicy -A"}
		if q.isReply() {
			return append(fix, q.replyFix()...)
		}
		return append(fix, "let a policy allow it")
	}
	if show := showPolicy(m.PolicyKind, m.Policy); show != "" {
		fix = append(fix, "see what the policy allows: "+show)
	}
	if q.isReply() {
		return append(fix, q.replyFix()...)
	}
	side := "ingress to " + endsAt(q.p).Dst.String()
	if m.Direction == "egress" {
		side = "egress from " + endsAt(q.p).Src.String()
	}
	return append(fix, "see all policies: kubectl get networkpolicy -A; calicoctl get networkpolicy,globalnetworkpolicy -A",
		"if it is to pass: let a policy allow "+side+" of "+q.service(), "if it should pass already: compare the labels of the pods with the policy's selectors (kubectl get pod -A --show-labels)")
}

// replyFix is what to do about a reply that dies: what may ask may be answered, by
// conntrack's knowledge of the connection. A policy that allows the answer would let
// in whoever sends from that port.
func (q *inquiry) replyFix() []string {
	e := endsAt(q.p)
	return []string{"open no policy for it: it is a reply, which rules for established connections are to let pass",
		fmt.Sprintf("see what conntrack knows of its connection: conntrack -L -p %s | grep %s", q.p.Proto, e.Dst),
		"see that such a rule comes before the one that drops it: -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; nft: ct state established,related accept"}
}

// service is protocol and port of what was asked for.
func (q *inquiry) service() string {
	e := endsAt(q.p)
	port := e.DstPort
	if q.isReply() {
		port = e.SrcPort
	}
	if port == 0 || strings.HasPrefix(q.p.Proto, "icmp") {
		return q.p.Proto
	}
	return fmt.Sprintf("%s port %d", q.p.Proto, port)
}

// showPolicy is the command that prints a policy.
func showPolicy(kind, name string) string {
	ns, short, global := "", name, true
	if before, after, ok := strings.Cut(name, "/"); ok {
		ns, short, global = before, after, false
	}
	switch {
	case name == "":
		return ""
	case kind == "KubernetesNetworkPolicy":
		return fmt.Sprintf("kubectl -n %s get networkpolicy %s -o yaml", ns, short)
	case kind == "Profile":
		return "calicoctl get profile " + name + " -o yaml"
	case global:
		return "calicoctl get globalnetworkpolicy " + short + " -o yaml"
	}
	return fmt.Sprintf("calicoctl -n %s get networkpolicy %s -o yaml", ns, short)
}

func endpointFix(*inquiry, meaning.Meaning) []string {
	return []string{
		"see whether Calico knows the pod's endpoint: calicoctl get workloadendpoint -A -o wide",
		"see why Felix has not programmed it: kubectl -n calico-system logs ds/calico-node (kube-system in older installations)",
		"have Felix program the node again: delete the calico-node pod of this node",
		"if the interface is of no pod that exists: delete the pod it was made for and let it be made again",
	}
}

// calicoReversePath: Calico's own source check.
func calicoReversePath(q *inquiry) *claim {
	c := ofKind(spoofFix, meaning.ReversePath)(q)
	if c != nil {
		q.tellLostRoute(c, endsAt(q.p).Src)
	}
	return c
}

func spoofFix(q *inquiry, _ meaning.Meaning) []string {
	src := endsAt(q.p).Src.String()
	return []string{
		"have the pod send from an address that Calico gave it; who sends from " + src + "?",
		"if the pod is meant to have " + src + ": let IPAM give it, or annotate the pod with cni.projectcalico.org/allowedSourcePrefixes",
		"see the way back that the check asks for: ip route get " + src,
	}
}

func invalidFix(q *inquiry, _ meaning.Meaning) []string {
	fix := []string{"see that both directions of the connection pass this node: trace on the other nodes, too; ip route get on both ends"}
	if q.p.Proto == "tcp" {
		fix = append(fix, "if segments are out of the window as conntrack sees it (reordering, offloads): sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1")
	}
	return append(fix, "if the connection was there before the rules or after its entry had gone: let the client connect again")
}
