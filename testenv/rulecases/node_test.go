// SPDX-License-Identifier: Apache-2.0

// The node that all cases share: a Flannel node of testenv without its rules,
// its two pods taken off the bridge and routed, and a bridge between them beside
// that. A Flannel node has no legacy table before a test makes one.

package rulecases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/scenario"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// What a run covers, set by the Makefile:
//
//	PATHTRACE_BIN      the built program (needed)
//	PATHTRACE_BACKEND  fentry or tracepoint (needed)
type plan struct{ bin, backend string }

func readPlan(t *testing.T) plan {
	t.Helper()
	if testing.Short() {
		t.Skip("rule cases need root and a built pathtrace: not with -short")
	}
	p := plan{os.Getenv("PATHTRACE_BIN"), os.Getenv("PATHTRACE_BACKEND")}
	if p.bin == "" || p.backend == "" {
		t.Skip("PATHTRACE_BIN and PATHTRACE_BACKEND are not set: run by `make test`")
	}
	if p.backend != "fentry" && p.backend != "tracepoint" {
		t.Fatalf("PATHTRACE_BACKEND=%s: not fentry or tracepoint", p.backend)
	}
	return p
}

// exact tells that this backend sees every rule match.
func (p plan) exact() bool { return p.backend == "fentry" }

// Addresses that are ours on the node.
var (
	gateway6  = netip.MustParseAddr("fd77::1") // of both pods, and the node's own
	bridgeDst = netip.MustParseAddr("10.78.0.2")
)

// Interfaces of the bridge between the pods.
const (
	bridge     = "br77"
	bridgePort = "bp" // and a digit
)

// stand is the node with its two pods.
type stand struct {
	env            *cluster.Env
	node           *netns.Namespace
	client, server *cluster.Pod
	gateway4       netip.Addr // the node's own address on the pod network
}

// newStand builds it and removes it when the test ends.
func newStand(t *testing.T) *stand {
	t.Helper()
	e, err := cluster.New(t.Context(), cluster.Options{Dataplane: cluster.FlannelNFTables})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &stand{env: e, node: e.Node(1).Netns, client: e.Pod("default/client"), server: e.Pod("default/server"),
		gateway4: e.Node(1).PodNet.Masked().Addr().Next()}
	if err := s.build(t.Context()); err != nil {
		t.Fatalf("routed pods: %v", err)
	}
	return s
}

func (s *stand) build(ctx context.Context) error {
	if _, err := s.node.Run(ctx, "", "nft", "flush", "ruleset"); err != nil {
		return err
	}
	// a Flannel node has the rules of its bridged pods pass iptables: not these
	err := s.node.Sysctl(netns.Setting{Path: "bridge/bridge-nf-call-iptables", Value: "0"},
		netns.Setting{Path: "bridge/bridge-nf-call-ip6tables", Value: "0"},
		netns.Setting{Path: "ipv4/conf/all/rp_filter", Value: "0"},
		netns.Setting{Path: "ipv4/conf/all/forwarding", Value: "1"},
		netns.Setting{Path: "ipv6/conf/all/forwarding", Value: "1"})
	if err != nil {
		return err
	}
	if err := s.ip(ctx, s.node, "link add "+bridge+" type bridge", "link set "+bridge+" up"); err != nil {
		return err
	}
	for i, pod := range []*cluster.Pod{s.client, s.server} {
		if err := s.route(ctx, pod); err != nil {
			return fmt.Errorf("%s: %w", pod.FullName(), err)
		}
		if err := s.bridge(ctx, pod, fmt.Sprintf("%s%d", bridgePort, i)); err != nil {
			return fmt.Errorf("%s: %w", pod.FullName(), err)
		}
	}
	return errors.Join(
		s.ip(ctx, s.client.Netns, fmt.Sprintf("route add %s dev eth1 src %s", bridgeDst, s.client.IPv4)),
		s.ip(ctx, s.server.Netns, fmt.Sprintf("addr add %s/32 dev eth1", bridgeDst)),
		s.warm(ctx))
}

// route takes a pod off cni0 and routes it.
func (s *stand) route(ctx context.Context, pod *cluster.Pod) error {
	veth := pod.HostInterface
	err := s.ip(ctx, s.node, "link set "+veth+" nomaster",
		fmt.Sprintf("addr add %s/32 dev %s", s.gateway4, veth), // REDIRECT goes to the interface's own
		fmt.Sprintf("addr add %s/128 dev %s nodad", gateway6, veth),
		fmt.Sprintf("route add %s dev %s", pod.IPv4, veth),
		fmt.Sprintf("-6 route add %s dev %s", pod.IPv6, veth))
	if err != nil {
		return err
	}
	return s.ip(ctx, pod.Netns, "addr flush dev eth0 scope global",
		fmt.Sprintf("addr add %s/32 dev eth0", pod.IPv4),
		fmt.Sprintf("addr add %s/128 dev eth0 nodad", pod.IPv6),
		fmt.Sprintf("route add %s dev eth0", s.gateway4),
		fmt.Sprintf("route replace default via %s dev eth0", s.gateway4),
		fmt.Sprintf("-6 route add %s dev eth0", gateway6),
		fmt.Sprintf("-6 route replace default via %s dev eth0", gateway6))
}

// bridge gives a pod a second interface, on the bridge.
func (s *stand) bridge(ctx context.Context, pod *cluster.Pod, port string) error {
	err := s.ip(ctx, s.node, fmt.Sprintf("link add %s type veth peer name eth1 netns %s", port, pod.Netns.Name),
		fmt.Sprintf("link set %s master %s up", port, bridge))
	if err != nil {
		return err
	}
	return s.ip(ctx, pod.Netns, "link set eth1 up")
}

// ip runs ip(8) commands one by one, so that an error names its own.
func (s *stand) ip(ctx context.Context, ns *netns.Namespace, commands ...string) error {
	for _, c := range commands {
		if _, err := ns.Run(ctx, "", "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// warm sends on every way once: neighbours are resolved then, and that packets
// arrive without rules is known.
func (s *stand) warm(ctx context.Context) error {
	for _, t := range []traffic.Spec{
		{Proto: "udp", Src: "default/client", Dst: "default/server", Count: 1},
		{Proto: "udp", Src: "default/client", Dst: "default/server", Count: 1, IPv6: true},
		{Proto: "udp", Src: "default/client", Dst: bridgeDst.String(), Count: 1},
		{Proto: "icmp", Src: "default/client", Dst: s.gateway4.String(), Count: 1},
		{Proto: "icmp", Src: "default/client", Dst: gateway6.String(), Count: 1, IPv6: true},
	} {
		var r traffic.Result
		var err error
		for range 5 { // a bridge port that came up learns before it forwards
			if r, err = traffic.Send(ctx, s.env, t); err != nil || r.Outcome == traffic.Answered {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if err != nil || r.Outcome != traffic.Answered && t.Dst != bridgeDst.String() {
			return fmt.Errorf("a node without rules does not let pass: %v: %v", r, err)
		}
	}
	return nil
}

// trace starts a trace on the node. It is killed when ctx ends, if not before.
func (s *stand) trace(ctx context.Context, t *testing.T, p plan, args ...string) *scenario.Trace {
	t.Helper()
	all := append([]string{"--backend", p.backend, "--netns", s.node.Path, "--sample", "all"}, args...)
	tr, err := scenario.StartTrace(ctx, p.bin, all...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// stop ends a trace and wants nothing lost.
func stop(t *testing.T, tr *scenario.Trace) {
	t.Helper()
	sum, err := tr.Stop()
	if err != nil {
		t.Error(err)
		tr.Kill()
		return
	}
	if n := sum.LostEvents + sum.LostPackets; n > 0 {
		t.Errorf("%d events or packets lost", n)
	}
	if _, err := tr.Wait(); err != nil {
		t.Error(err)
	}
}
