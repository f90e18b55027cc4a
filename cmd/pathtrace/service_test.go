// SPDX-License-Identifier: Apache-2.0

// service_test.go traces a probe to a service by its name, on a test node with
// kube-proxy's rules and an API server that knows the service: cluster IP,
// backend and the reply translated back are one story.

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
	"github.com/pathtrace/pathtrace/tracer/endpoint/kube/kubetest"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// titleOf is what the tests' service is called.
const titleOf = "demo/svc/of-the-test"

// serve describes a test node's service to an API server.
func serve(t *testing.T, s cluster.Service) string {
	t.Helper()
	server := kubetest.Serve(t)
	svc := kube.Service{Metadata: kube.Metadata{Namespace: "demo", Name: "of-the-test"}}
	svc.Spec.ClusterIP = s.ClusterIP.String()
	svc.Spec.Ports = []kube.ServicePort{{Protocol: strings.ToUpper(s.Proto), Port: s.Port}}
	slice := kube.EndpointSlice{Metadata: svc.Metadata}
	for _, e := range s.Endpoints {
		slice.Endpoints = append(slice.Endpoints, kube.SliceEndpoint{Addresses: []string{e.Addr().String()}})
	}
	server.Services, server.Slices = []kube.Service{svc}, []kube.EndpointSlice{slice}
	return server.Kubeconfig(t, kubetest.Token)
}

func TestServiceFlow(t *testing.T) {
	e, err := cluster.New(t.Context(), cluster.Options{Dataplane: cluster.CalicoNFT, KubeProxy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	service := oneBackend(t, e, e.Pod("default/server").IPv4)
	args := []string{
		"--netns", e.Node(1).Netns.Path, "--cni-cache", e.Node(1).CNICache, "--kubeconfig", serve(t, service), "-o", "json",
		"-s", "default/client", "-d", "demo/svc/of-the-test", "--probe", fmt.Sprintf("tcp:%d", service.Port),
	}
	for _, more := range [][]string{nil, {"-p", fmt.Sprint(service.Port)}} {
		r := finish(t, play(t, realSession, append(args, more...)...))
		front := netip.AddrPortFrom(service.ClusterIP, service.Port)
		r.want(t, 0, fmt.Sprintf("probe tcp default/client -> %s: connected in ", front))
		var seen flowSeen
		if err := model.ReadJSON(strings.NewReader(r.stdout), &seen); err != nil {
			t.Fatal(err)
		}
		seen.check(t, front, service.Endpoints[0])
	}
	told := inText(args)
	r := finish(t, play(t, realSession, told...))
	for _, want := range []string{
		fmt.Sprintf(" > %s:%d (%s) [S]", service.ClusterIP, service.Port, titleOf),
		fmt.Sprintf("nat dst %s:%d (%s) -> %s (default/server)", service.ClusterIP, service.Port, titleOf, service.Endpoints[0]),
		fmt.Sprintf("nat src %s (default/server) -> %s:%d (%s)", service.Endpoints[0], service.ClusterIP, service.Port, titleOf),
		fmt.Sprintf("probe    TCP default/client > %s:%d: connected in ", service.ClusterIP, service.Port),
	} {
		if text := strings.Join(strings.Fields(r.stdout), " "); !strings.Contains(text, strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in:\n%s", want, r.stdout)
		}
	}
	deadBackend(t, e, args, service)
}

// inText makes arguments for JSON ask for text.
func inText(args []string) []string {
	told := slices.Clone(args)
	told[slices.Index(told, "json")] = "text"
	return told
}

// deadBackend ends the one pod behind the service, whose rules still lead to it:
// each packet is shown to be translated to it, and to die on the way there.
func deadBackend(t *testing.T, e *cluster.Env, args []string, service cluster.Service) {
	t.Helper()
	if err := e.StopPod(t.Context(), e.Pod("default/server")); err != nil {
		t.Fatal(err)
	}
	r := finish(t, play(t, realSession, args...))
	r.want(t, 2, "timed out")
	var seen flowSeen
	if err := model.ReadJSON(strings.NewReader(r.stdout), &seen); err != nil {
		t.Fatal(err)
	}
	backend := service.Endpoints[0]
	for _, p := range seen.packets {
		last := p.Hops[len(p.Hops)-1]
		translated := slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			return h.Stage == model.StageNAT && h.Before.DstName == titleOf && h.After.Dst == backend.Addr() && h.After.DstName == ""
		})
		if p.Outcome != model.Dropped || !translated || p.DstName != titleOf || last.Place != "node" || p.Drop.Stage != model.StageRoute {
			t.Errorf("with its backend dead: %s at %s, translated %t, %+v", p.Outcome, last.Place, translated, p.Drop)
		}
	}
	if len(seen.packets) == 0 {
		t.Error("no packet told")
	}
}

// oneBackend is a TCP service with the one backend.
func oneBackend(t *testing.T, e *cluster.Env, backend netip.Addr) cluster.Service {
	t.Helper()
	for _, s := range e.Services {
		if s.Proto == "tcp" && len(s.Endpoints) == 1 && s.Endpoints[0].Addr() == backend {
			return s
		}
	}
	t.Fatal("no such service on the test node")
	return cluster.Service{}
}

// flowSeen is what is kept of a trace.
type flowSeen struct {
	ignore
	packets []*model.Packet
}

// Packet implements model.Sink.
func (s *flowSeen) Packet(p *model.Packet) error {
	s.packets = append(s.packets, p)
	return nil
}

// check wants every packet translated: to the backend on its way there, back
// to the cluster IP on its way home, with the ends named on both.
func (s *flowSeen) check(t *testing.T, front, backend netip.AddrPort) {
	t.Helper()
	count := map[model.Direction]int{}
	for _, p := range s.packets {
		count[p.Direction]++
		from, to := "default/client", "default/server"
		before, after := front, backend
		fromName, toName := from, titleOf // as the packet has it when it sets out
		if p.Direction == model.Return {
			from, to, before, after = to, from, after, before
			fromName, toName = from, to
		}
		if p.SrcName != fromName || p.DstName != toName {
			t.Errorf("%s packet: from %q to %q, want %s, %s", p.Direction, p.SrcName, p.DstName, fromName, toName)
		}
		translated := slices.ContainsFunc(p.Hops, func(h model.Hop) bool {
			if h.Stage != model.StageNAT {
				return false
			}
			was, is := netip.AddrPortFrom(h.Before.Dst, h.Before.DstPort), netip.AddrPortFrom(h.After.Dst, h.After.DstPort)
			if p.Direction == model.Return {
				was, is = netip.AddrPortFrom(h.Before.Src, h.Before.SrcPort), netip.AddrPortFrom(h.After.Src, h.After.SrcPort)
			}
			return was == before && is == after
		})
		if !translated || p.Outcome != model.Delivered || p.Hops[0].Place != from || p.Hops[len(p.Hops)-1].Place != to {
			t.Errorf("%s packet: translated %t, %s, from %s to %s", p.Direction, translated, p.Outcome, p.Hops[0].Place, p.Hops[len(p.Hops)-1].Place)
		}
	}
	if count[model.Forward] < 3 || count[model.Return] < 2 {
		t.Errorf("packets: %v", count)
	}
}
