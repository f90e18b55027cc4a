// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file resolves services: the addresses that clients use, and those of
// the backends behind them, so that a packet is known before and after DNAT.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// MaxPrefixes is how many addresses of one family an end may have: the size of
// the kernel half's lists (bpf/event.h, struct end).
const MaxPrefixes = 16

// Service is what stands behind a service's addresses.
type Service struct {
	Fronts   []netip.Addr // what clients use: cluster IPs first, then external and load balancer's; empty: headless
	Ports    []ServicePort
	Backends []Backend
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string // "" when there is only one
	Proto    string // tcp, udp, sctp
	Port     uint16 // at the service's addresses
	Target   string // at the backends: a number, or a name of the pod's ports; "" as Port
	NodePort uint16 // at every node; 0 none
}

// Backend is one address behind a service.
type Backend struct {
	Addr  netip.Addr
	Ports []uint16 // that it serves
	Pod   string   // namespace/name; "" not a pod
	Node  string
	Ready bool // gets new connections
}

// service resolves a service. Only the API knows services by name.
func (r *Resolver) service(ctx context.Context, v *view, name podName) (Endpoint, error) {
	client, err := r.cluster.connect(ctx)
	var found kube.Service
	if err == nil {
		found, err = client.Service(ctx, name.namespace, name.name)
	}
	switch {
	case ctx.Err() != nil:
		return Endpoint{}, ctx.Err()
	case errors.Is(err, kube.ErrNotFound):
		near := r.cluster.near(ctx, "services", name)
		return Endpoint{}, notFound("service", name, []string{"not at the Kubernetes API " + client.Server() + " (" + countServices(near, name) + ")"}, near)
	case err != nil:
		return Endpoint{}, fmt.Errorf("%w: service %s: %s; only the API knows services by name: name the service's address instead", ErrUnknown, name, r.cluster.miss(err))
	case found.Spec.Type == "ExternalName":
		return Endpoint{}, fmt.Errorf("service %s: only another name for %s, outside the cluster: name that host's address", name, found.Spec.ExternalName)
	}
	backends, err := client.EndpointSlices(ctx, name.namespace, name.name)
	if err != nil {
		r.warn(fmt.Sprintf("service %s: its backends are not known (%v): packets are followed by its own addresses only", name, err))
	}
	e := Endpoint{End: model.End{Kind: KindService, Name: name.name, Namespace: name.namespace, ResolvedBy: "Kubernetes API " + client.Server()}}
	e.Service = newService(found, backends)
	return e, r.serviceEnd(ctx, v, &e, err == nil)
}

func countServices(names []podName, name podName) string {
	n := 0
	for _, other := range uniqueNames(names) {
		if other.namespace == name.namespace {
			n++
		}
	}
	return fmt.Sprintf("%d services in %s", n, name.namespace)
}

// serviceEnd fills in addresses and, of local backends, namespaces.
func (r *Resolver) serviceEnd(ctx context.Context, v *view, e *Endpoint, backendsKnown bool) error {
	s := e.Service
	e.Prefixes = addrPrefixes(s.Fronts)
	ready := 0
	left := 0
	for _, b := range s.Backends {
		if b.Ready {
			ready++
		}
		if full(e.Prefixes, b.Addr) {
			left++
			continue
		}
		e.Prefixes = append(e.Prefixes, netip.PrefixFrom(b.Addr, b.Addr.BitLen()))
		var at Endpoint
		if err := v.locate(ctx, &at, b.Addr); err != nil {
			return err
		}
		e.NetnsInodes = append(e.NetnsInodes, at.NetnsInodes...)
	}
	slices.Sort(e.NetnsInodes)
	e.NetnsInodes = slices.Compact(e.NetnsInodes)
	e.ResolvedBy += fmt.Sprintf(", %d of %d backends ready", ready, len(s.Backends))
	switch {
	case len(e.Prefixes) == 0:
		return fmt.Errorf("service %s/%s: headless and without endpoints: there is no address to send to", e.Namespace, e.Name)
	case left > 0:
		r.warn(fmt.Sprintf("service %s/%s: has %d backends; packets to %d of them are followed by the service's own addresses only", e.Namespace, e.Name, len(s.Backends), left))
	case ready == 0 && backendsKnown:
		r.warn(fmt.Sprintf("service %s/%s: has no ready backend, so its packets will be refused", e.Namespace, e.Name))
	}
	return nil
}

// full tells whether there is no place for one more address of that family.
func full(have []netip.Prefix, a netip.Addr) bool {
	n := 0
	for _, p := range have {
		if p.Addr().Is4() == a.Is4() {
			n++
		}
	}
	return n >= MaxPrefixes
}

// newService gathers what the API tells of a service.
func newService(s kube.Service, backends []kube.EndpointSlice) *Service {
	fronts := append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...)
	fronts = append(append(fronts, s.Spec.ExternalIPs...), ips(s.Status.LoadBalancer.Ingress)...)
	out := &Service{Fronts: parseAddrs(fronts)}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, ServicePort{
			Name: p.Name, Proto: strings.ToLower(orWord(p.Protocol, "TCP")), Port: p.Port, Target: targetPort(p.TargetPort), NodePort: p.NodePort,
		})
	}
	for _, slice := range backends {
		out.addSlice(slice)
	}
	return out
}

// targetPort reads a number or a name; "" for neither.
func targetPort(raw json.RawMessage) string {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name
	}
	var number uint16
	if json.Unmarshal(raw, &number) == nil && number != 0 {
		return strconv.Itoa(int(number))
	}
	return ""
}

// addSlice adds a slice's backends. An address may stand in several slices,
// once for each set of ports.
func (s *Service) addSlice(slice kube.EndpointSlice) {
	var ports []uint16
	for _, p := range slice.Ports {
		ports = append(ports, p.Port)
	}
	for _, e := range slice.Endpoints {
		for _, a := range parseAddrs(e.Addresses) {
			i := slices.IndexFunc(s.Backends, func(b Backend) bool { return b.Addr == a })
			if i < 0 {
				i = len(s.Backends)
				s.Backends = append(s.Backends, Backend{Addr: a, Node: e.NodeName})
			}
			b := &s.Backends[i]
			b.Ready = b.Ready || e.Ready()
			b.Ports = append(b.Ports, ports...)
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				b.Pod = e.TargetRef.Namespace + "/" + e.TargetRef.Name
			}
		}
	}
}
