// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds pods by the Kubernetes API (package kube): those of other
// nodes, and of this one when nothing on the node knows their names.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
)

// clusterSource is the API server as a source. It connects when it is first
// asked, and asks no more once the server was found unreachable.
type clusterSource struct {
	given  string // --kubeconfig
	host   hostRoot
	client *kube.Client
	failed error // why there is no use in asking
}

func newClusterSource(given string, host hostRoot) *clusterSource {
	return &clusterSource{given: given, host: host}
}

func (s *clusterSource) title() string { return "Kubernetes API" }

func (s *clusterSource) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// connect gives the client; errAbsent when nothing says where the API is.
func (s *clusterSource) connect(ctx context.Context) (*kube.Client, error) {
	if s.client != nil || s.failed != nil {
		return s.client, s.failed
	}
	config, err := kube.Locate(s.given, os.Getenv, s.host.readFile)
	if err == nil {
		s.client, err = kube.NewClient(ctx, *config)
	}
	if errors.Is(err, kube.ErrNoConfig) {
		err = errAbsent{"not at the Kubernetes API (no kubeconfig: --kubeconfig or KUBECONFIG names it)"}
	}
	s.failed = err
	return s.client, err
}

// miss says why the API did not help.
func (s *clusterSource) miss(err error) string {
	var absent errAbsent
	switch {
	case errors.As(err, &absent):
		return absent.why
	case errors.Is(err, kube.ErrUnreachable):
		s.failed = err
	}
	from := ""
	if s.client != nil {
		from = " with " + s.client.Source()
	}
	return fmt.Sprintf("the Kubernetes API cannot be asked%s (%v)", from, err)
}

func (s *clusterSource) find(ctx context.Context, v *view, pod podName) (answer, error) {
	client, err := s.connect(ctx)
	if err == nil {
		var found kube.Pod
		if found, err = client.Pod(ctx, pod.namespace, pod.name); err == nil {
			return s.found(ctx, v, found)
		}
	}
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case !errors.Is(err, kube.ErrNotFound):
		return answer{miss: s.miss(err)}, nil
	}
	return answer{
		miss:  "not at the Kubernetes API " + client.Server(),
		names: s.near(ctx, "pods", pod),
	}, nil
}

// near lists names to propose: those of the namespace, and equal ones in other
// namespaces. They are a courtesy: credentials that do not allow it give none.
func (s *clusterSource) near(ctx context.Context, kind string, name podName) []podName {
	var names []podName
	for _, ask := range []struct{ namespace, only string }{{name.namespace, ""}, {"", name.name}} {
		found, err := s.client.Names(ctx, kind, ask.namespace, ask.only)
		if err != nil {
			continue
		}
		for _, f := range found {
			names = append(names, podName{f.Namespace, f.Name})
		}
	}
	return names
}

// found judges a pod that the API knows.
func (s *clusterSource) found(ctx context.Context, v *view, pod kube.Pod) (answer, error) {
	if err := usable(pod); err != nil {
		return answer{}, err
	}
	p := sandbox{podName: podName{pod.Metadata.Namespace, pod.Metadata.Name}, created: pod.Metadata.CreationTimestamp}
	p.addrs = parseAddrs(append([]string{pod.Status.PodIP}, ips(pod.Status.PodIPs)...))
	here, err := s.isHere(ctx, v, pod, p)
	if err != nil {
		return answer{}, err
	}
	switch {
	case !here:
		p.node = pod.Spec.NodeName
	case pod.Spec.HostNetwork:
		p.hostNetwork = true
	}
	return answer{how: "Kubernetes API " + s.client.Server(), found: []sandbox{p}}, nil
}

// usable refuses pods that have no address of their own, yet or any more.
func usable(pod kube.Pod) error {
	switch phase := pod.Status.Phase; {
	case phase == "Succeeded" || phase == "Failed":
		return fmt.Errorf("it has ended (%s): its address may be another pod's by now; name one that runs, or an address", phase)
	case pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0:
		why := ""
		for _, c := range pod.Status.Conditions {
			if c.Status == "False" && c.Message != "" {
				why = " (" + c.Reason + ": " + c.Message + ")"
				break
			}
		}
		return fmt.Errorf("it is %s and has no address yet%s: wait until it runs", orWord(phase, "not running"), why)
	}
	return nil
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// isHere tells whether the pod runs on this node: by its host's address, else
// because its own leads to a pod's interface here.
func (s *clusterSource) isHere(ctx context.Context, v *view, pod kube.Pod, p sandbox) (bool, error) {
	for _, a := range parseAddrs(append([]string{pod.Status.HostIP}, ips(pod.Status.HostIPs)...)) {
		if _, ok := holder(v.links, a); ok {
			return true, nil
		}
	}
	if pod.Spec.HostNetwork {
		return false, nil
	}
	for _, a := range p.addrs {
		var at Endpoint
		if err := v.locate(ctx, &at, a); err != nil {
			return false, err
		}
		if at.HostIfIndex != 0 {
			return true, nil
		}
	}
	return false, nil
}

// list is not asked of the API: it knows the whole cluster's pods, of which a
// node needs few.
func (s *clusterSource) list(ctx context.Context, _ *view) ([]sandbox, error) {
	_, err := s.connect(ctx)
	return nil, err
}

func ips(list []kube.IP) []string {
	words := make([]string, len(list))
	for i, ip := range list {
		words[i] = ip.IP
	}
	return words
}

// parseAddrs reads addresses, each once; what is none (None, "") is left out.
func parseAddrs(words []string) []netip.Addr {
	var all []netip.Addr
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil && !slices.Contains(all, a.Unmap()) {
			all = append(all, a.Unmap())
		}
	}
	return all
}
