// SPDX-License-Identifier: Apache-2.0

// Package story has the table of scenarios: a fault (or none), the traffic that
// shows it, and what the tracer must say about it on node1. Each has a healthy
// twin: the same environment and traffic without the fault, which must give no
// finding. Package scenario holds the tracer to it, the demo shows one.
package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Scenario is one story to be told right.
type Scenario struct {
	Name      string // dataplane/case-proto
	Doc       string
	Dataplane cluster.Dataplane
	Fault     string // empty: the environment is healthy
	CrossNode bool   // the traffic runs between node1 and node2; two nodes are needed
	KubeProxy bool   // kube-proxy's rules are needed
	Traffic   traffic.Spec
	// Healthy is the twin's traffic. It differs from Traffic only where the
	// traffic itself is what is wrong (its TTL, its source address, its port).
	Healthy traffic.Spec
	Expect  Expect
}

// Expect is what must be said. Sets hold alternatives; an empty set or field is
// not to be compared.
type Expect struct {
	Code      string // of the finding; empty: there must be none
	Direction model.Direction
	Silence   bool // no packet of the flow is seen: it takes a trace of its own
	Lasts     bool // it is told at a trace's end, of the node as it is then: the fault outlasts a trace of its own
	Outcomes  []model.Outcome
	Stages    []model.Stage // where it died
	Hook      string
	Table     string
	Chain     string // part of the rule's chain's name
	Policy    bool   // the chain's policy did it: there is no rule
	Rule      string // part of the rule's text; a fault's own rule is in Applied.Rule
	Places    []Role // in whose network namespace it died
	Interface []Role
	// Reasons are kernel drop reasons without SKB_DROP_REASON_. Kernels before
	// 5.17 have none; where a kernel does not give a reason it says
	// NOT_SPECIFIED, which is among the alternatives then.
	Reasons   []string
	Functions []string          // prefixes of the symbol that freed the packet
	Sender    []traffic.Outcome // what the sender saw
}

// Role is a part in a scenario's cast.
type Role string

// Roles.
const (
	RoleNode    Role = "node"     // place: node1
	RoleSrc     Role = "src"      // place: the source pod
	RoleDst     Role = "dst"      // place: the destination pod
	RoleSrcHost Role = "src-host" // interface: the source pod's, on its node
	RoleDstHost Role = "dst-host"
	RoleSrcPod  Role = "src-pod" // interface: the source pod's eth0
	RoleDstPod  Role = "dst-pod"
	RoleUplink  Role = "uplink"
	RoleTunnel  Role = "tunnel"
	RoleBridge  Role = "bridge" // cni0
)

// farPod is the pod of the second node.
const farPod = "default/web2"

// Nodes is how many nodes the scenario takes.
func (s *Scenario) Nodes() int {
	if s.CrossNode || s.Traffic.Src == farPod || s.Traffic.Dst == farPod {
		return 2
	}
	return 1
}

// Options are what an environment for the scenario is built with.
func (s *Scenario) Options() cluster.Options {
	return cluster.Options{Dataplane: s.Dataplane, Nodes: s.Nodes(), KubeProxy: s.KubeProxy}
}

// Apply warms the way with the healthy twin's traffic, checks that it passes,
// and breaks the environment. For a scenario without a fault nothing is broken;
// the returned value can be undone all the same.
func (s *Scenario) Apply(ctx context.Context, e *cluster.Env) (*fault.Applied, error) {
	if err := s.Check(ctx, e); err != nil {
		return nil, fmt.Errorf("before the fault: %w", err)
	}
	if s.Fault == "" {
		return &fault.Applied{Fault: &fault.Fault{}}, nil
	}
	return fault.Break(ctx, e, s.Fault, s.Traffic)
}

// answerWithin is waited for answers that must come. It costs time only where
// they do not: a machine that is busy with other things may be late.
const answerWithin = 2 * time.Second

// Run sends the scenario's traffic. Where silence may be the answer, its own
// timeout counts.
func (s *Scenario) Run(ctx context.Context, e *cluster.Env) (traffic.Result, error) {
	t := s.Traffic
	if len(s.Expect.Sender) > 0 && !slices.Contains(s.Expect.Sender, traffic.TimedOut) {
		t.Timeout = max(t.Timeout, answerWithin)
	}
	return traffic.Send(ctx, e, t)
}

// RunHealthy sends the twin's traffic.
func (s *Scenario) RunHealthy(ctx context.Context, e *cluster.Env) (traffic.Result, error) {
	t := s.Healthy
	t.Timeout = max(t.Timeout, answerWithin)
	return traffic.Send(ctx, e, t)
}

// Check sends the twin's traffic and gives an error unless all of it is
// answered.
func (s *Scenario) Check(ctx context.Context, e *cluster.Env) error {
	t := s.Healthy
	t.Count, t.Timeout = 1, answerWithin
	r, err := traffic.Send(ctx, e, t)
	if err != nil {
		return err
	}
	if r.Outcome != traffic.Answered {
		return fmt.Errorf("scenario %s: healthy traffic does not pass: %v", s.Name, r)
	}
	return nil
}

// Ends gives the addresses of the scenario's traffic.
func (s *Scenario) Ends(e *cluster.Env) (src, dst string, err error) {
	return traffic.Ends(e, s.Traffic)
}

// PlaceOf names the network namespace that a role plays in: node1 or a pod's
// full name; empty for roles that are interfaces.
func (s *Scenario) PlaceOf(r Role) string {
	return map[Role]string{RoleNode: "node1", RoleSrc: s.Traffic.Src, RoleDst: s.Traffic.Dst}[r]
}

// InterfaceOf names the interface that plays a role; empty for roles that are
// places, or ends that are no pods.
func (s *Scenario) InterfaceOf(e *cluster.Env, r Role) string {
	host := func(name string) string {
		if pod := e.Pod(name); pod != nil {
			return pod.HostInterface
		}
		return ""
	}
	switch r {
	case RoleSrcHost:
		return host(s.Traffic.Src)
	case RoleDstHost:
		return host(s.Traffic.Dst)
	case RoleSrcPod, RoleDstPod:
		return "eth0"
	case RoleUplink:
		return e.Node(1).Uplink
	case RoleTunnel:
		return e.Node(1).Tunnel
	case RoleBridge:
		return "cni0"
	}
	return ""
}

// Of lists all scenarios of one dataplane, healthy ones first.
func Of(d cluster.Dataplane) []Scenario {
	var all []Scenario
	for _, c := range scenarioCases() {
		if !c.of(d) {
			continue
		}
		for _, proto := range c.protos {
			all = append(all, c.scenario(d, proto))
		}
	}
	return all
}

// Find finds a scenario by name.
func Find(name string) (*Scenario, error) {
	d, _, ok := strings.Cut(name, "/")
	dataplane, err := cluster.ParseDataplane(d)
	if !ok {
		err = errors.Join(err, errors.New("the name has the form dataplane/case-proto"))
	}
	if err != nil {
		return nil, fmt.Errorf("scenario %q: %w", name, err)
	}
	for _, s := range Of(dataplane) {
		if s.Name == name {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("scenario %q does not exist", name)
}
