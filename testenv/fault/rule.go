// SPDX-License-Identifier: Apache-2.0

// Faults of rules: written by somebody, in the node's own rule form or in the
// one nobody looks at, in the node or in a pod; and policies that changed.

package fault

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

func ruleFaults() []Fault {
	return []Fault{
		{Name: "rule-drop", Code: "rule-drop", Kinds: anyKind,
			Doc: "a rule at the head of the node's FORWARD drops the request", Apply: dropForward("DROP")},
		{Name: "rule-reject", Code: "rule-drop", Kinds: anyKind,
			Doc: "a rule at the head of the node's FORWARD rejects the request", Apply: dropForward("REJECT")},
		{Name: "rule-drop-return", Code: "rule-drop", Kinds: anyKind,
			Doc: "a rule at the head of the node's FORWARD drops the reply", Apply: dropReturn},
		{Name: "queue-no-listener", Code: "queue-no-listener", Kinds: anyKind,
			Doc: "a rule at the head of the node's FORWARD sends the request to a queue that no program listens on", Apply: queueForward},
		{Name: "split-rulesets", Code: "split-rulesets", Kinds: anyKind,
			Doc: "a stale rule in the iptables backend that the node does not use drops the request", Apply: splitRulesets},
		{Name: "pod-input-drop", Code: "rule-drop", Kinds: anyKind,
			Doc: "a rule at INPUT in the destination pod's own namespace drops the request", Apply: podInput},
		{Name: "pod-output-drop", Code: "rule-drop", Kinds: anyKind,
			Doc: "a rule at OUTPUT in the source pod's own namespace drops the request", Apply: podOutput},
		{Name: "policy-deny", Code: "policy-deny", Kinds: onlyCalico,
			Doc: "the source pod no longer matches the selector of the policy that lets it in", Apply: policyDeny},
		{Name: "forward-policy", Code: "forward-policy", Kinds: onlyFlannel,
			Doc: "FORWARD's policy is DROP, as Docker leaves it, and no rule accepts", Apply: forwardPolicy},
	}
}

// protoFor is the protocol as rules call it.
func (f flow) protoFor() string {
	if f.Proto == "icmp" && f.IPv6 {
		return "icmpv6"
	}
	return f.Proto
}

// ends are the flow's addresses.
func (f flow) ends(e *cluster.Env) (src, dst netip.Addr, err error) {
	if dst, _, err = traffic.Resolve(e, f.Spec); err != nil {
		return src, dst, err
	}
	back := f.Spec
	back.Dst = f.Src
	src, _, err = traffic.Resolve(e, back)
	return src, dst, err
}

// requestRule matches the flow's request, replyRule its reply.
func requestRule(e *cluster.Env, f flow, name, hook, verdict string) (ruleSpec, error) {
	src, dst, err := f.ends(e)
	s := ruleSpec{name: name, hook: hook, src: src, dst: dst, proto: f.protoFor(), verdict: verdict}
	if f.Proto != "icmp" {
		s.dport = f.Port
	}
	return s, err
}

func replyRule(e *cluster.Env, f flow, name, hook, verdict string) (ruleSpec, error) {
	src, dst, err := f.ends(e)
	s := ruleSpec{name: name, hook: hook, src: dst, dst: src, proto: f.protoFor(), verdict: verdict}
	if f.Proto != "icmp" {
		s.sport = f.Port
	}
	return s, err
}

// write puts a rule in and keeps what takes it out.
func write(ctx context.Context, e *cluster.Env, ns *netns.Namespace, form cluster.RuleForm, s ruleSpec) func(*Applied) error {
	return func(a *Applied) error {
		rule, undo, err := insertRule(ctx, e, ns, form, s)
		if err != nil {
			return err
		}
		a.Rule, a.undo = &rule, append(a.undo, undo)
		return nil
	}
}

func dropForward(verdict string) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
		s, err := requestRule(e, f, "maintenance-window", "FORWARD", verdict)
		if err != nil {
			return nil, err
		}
		return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), s))
	}
}

// Queue is the one that the fault queue-no-listener sends packets to.
const Queue = 7

func queueForward(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, err := requestRule(e, f, "traffic-inspection", "FORWARD", "NFQUEUE")
	if err != nil {
		return nil, err
	}
	s.queue = Queue
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), s))
}

func dropReturn(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	s, err := replyRule(e, f, "egress-lockdown", "FORWARD", "DROP")
	if err != nil {
		return nil, err
	}
	return apply("node1", write(ctx, e, e.Node(1).Netns, e.Dataplane.Form(), s))
}

func splitRulesets(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	other := cluster.FormLegacy
	if e.Dataplane.Form() == cluster.FormLegacy {
		other = cluster.FormNFT
	}
	s, err := requestRule(e, f, "left-over", "FORWARD", "DROP")
	if err != nil {
		return nil, err
	}
	return apply("node1", write(ctx, e, e.Node(1).Netns, other, s))
}

func podInput(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.dst == nil {
		return nil, errors.New("the traffic's destination must be a pod")
	}
	s, err := requestRule(e, f, "pod-firewall", "INPUT", "DROP")
	if err != nil {
		return nil, err
	}
	return apply(f.dst.FullName(), write(ctx, e, f.dst.Netns, e.Dataplane.Form(), s))
}

func podOutput(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil {
		return nil, errors.New("the traffic's source must be a pod")
	}
	s, err := requestRule(e, f, "pod-firewall", "OUTPUT", "DROP")
	if err != nil {
		return nil, err
	}
	return apply(f.src.FullName(), write(ctx, e, f.src.Netns, e.Dataplane.Form(), s))
}

// policyDeny takes the source out of the set, as Felix does when a pod's labels
// change.
func policyDeny(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	if f.src == nil {
		return nil, errors.New("the traffic's source must be a pod")
	}
	for _, p := range cluster.CalicoPolicySets() {
		if p.Dst != f.Dst || p.Proto != "" && p.Proto != f.Proto {
			continue
		}
		return apply("node1", leaveSet(ctx, e, p.Set, f.src.IPv4))
	}
	return nil, fmt.Errorf("no policy lets %s to %s in", f.Proto, f.Dst)
}

func leaveSet(ctx context.Context, e *cluster.Env, set string, addr netip.Addr) func(*Applied) error {
	change := func(ctx context.Context, verb string) error {
		cmd := []string{"ipset", verb, set, addr.String()}
		if e.Dataplane.Form() == cluster.FormNFTables {
			verb := map[string]string{"del": "delete", "add": "add"}[verb]
			cmd = []string{"nft", verb, "element", "ip", "calico", strings.ReplaceAll(set, ":", "-"), "{", addr.String(), "}"}
		}
		_, err := e.RunTool(ctx, e.Node(1).Netns, "", cmd...)
		return err
	}
	return func(a *Applied) error {
		return a.then(func() error { return change(ctx, "del") },
			func() error { return change(context.WithoutCancel(ctx), "add") })
	}
}

// forwardPolicy does what Docker does to a node. With native rules flannel's
// accept stays: an accept in one nf_tables table does not save the packet from
// the policy of another.
func forwardPolicy(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	run := func(ctx context.Context, cmd ...string) func() error {
		return func() error {
			_, err := e.RunTool(ctx, node.Netns, "", cmd...)
			return err
		}
	}
	after := context.WithoutCancel(ctx)
	name := func(a *Applied) error {
		backend := "nft"
		if e.Dataplane.Form() == cluster.FormLegacy {
			backend = "legacy"
		}
		a.Rule = &Rule{Family: "ip", Table: "filter", Chain: "FORWARD", Backend: backend}
		return nil
	}
	if e.Dataplane.Form() == cluster.FormNFTables {
		return apply(node.Name, name, func(a *Applied) error {
			return a.then(run(ctx, "iptables-nft", "-P", "FORWARD", "DROP"), run(after, "nft", "delete", "table", "ip", "filter"))
		})
	}
	tool := "iptables-" + string(e.Dataplane.Form())
	jump := []string{"FORWARD", "-m", "comment", "--comment", "flanneld forward", "-j", "FLANNEL-FWD"}
	return apply(node.Name, name, func(a *Applied) error {
		return a.then(run(ctx, tool, "-w", "-P", "FORWARD", "DROP"), run(after, tool, "-w", "-P", "FORWARD", "ACCEPT"))
	}, func(a *Applied) error {
		return a.then(run(ctx, append([]string{tool, "-w", "-D"}, jump...)...), run(after, append([]string{tool, "-w", "-A"}, jump...)...))
	})
}
