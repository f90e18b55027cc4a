// SPDX-License-Identifier: Apache-2.0

// What stands, as plain data: the form of --json.

package main

import (
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/fault"
)

type description struct {
	Dataplane string     `json:"dataplane"`
	External  string     `json:"external"`
	Nodes     []nodeDesc `json:"nodes"`
	Pods      []podDesc  `json:"pods"`
	Services  []svcDesc  `json:"services,omitempty"`
	Underlay  string     `json:"underlay_netns"`
	Fault     *faultDesc `json:"fault,omitempty"`
}

type nodeDesc struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Uplink   string `json:"uplink"`
	Tunnel   string `json:"tunnel"`
	CNICache string `json:"cni_cache"`
	Netns    string `json:"netns"`
	Inode    uint64 `json:"inode"`
}

type podDesc struct {
	Namespace     string `json:"namespace"`
	Name          string `json:"name"`
	IPv4          string `json:"ipv4"`
	IPv6          string `json:"ipv6"`
	MAC           string `json:"mac"`
	Node          string `json:"node"`
	HostInterface string `json:"host_interface"`
	Netns         string `json:"netns"`
	Inode         uint64 `json:"inode"`
}

type svcDesc struct {
	Name      string   `json:"name"`
	ClusterIP string   `json:"cluster_ip"`
	Proto     string   `json:"proto"`
	Port      uint16   `json:"port"`
	Endpoints []string `json:"endpoints"`
}

type faultDesc struct {
	Name  string `json:"name"`
	Code  string `json:"code"`
	Doc   string `json:"doc"`
	Place string `json:"place"`
	Rule  string `json:"rule,omitempty"`
}

func describe(e *cluster.Env, a *fault.Applied) description {
	d := description{Dataplane: string(e.Dataplane), External: cluster.ExternalAddr.String(), Underlay: e.Underlay.Path}
	for _, n := range e.Nodes {
		d.Nodes = append(d.Nodes, nodeDesc{n.Name, n.Addr.String(), n.Uplink, n.Tunnel, n.CNICache, n.Netns.Path, n.Netns.Inode})
	}
	for _, p := range e.Pods {
		d.Pods = append(d.Pods, podDesc{p.Namespace, p.Name, p.IPv4.String(), p.IPv6.String(), p.MAC, p.Node.Name, p.HostInterface, p.Netns.Path, p.Netns.Inode})
	}
	for _, s := range e.Services {
		desc := svcDesc{Name: s.FullName(), ClusterIP: s.ClusterIP.String(), Proto: s.Proto, Port: s.Port, Endpoints: []string{}}
		for _, endpoint := range s.Endpoints {
			desc.Endpoints = append(desc.Endpoints, endpoint.String())
		}
		d.Services = append(d.Services, desc)
	}
	if a != nil {
		d.Fault = &faultDesc{Name: a.Fault.Name, Code: a.Fault.Code, Doc: a.Fault.Doc, Place: a.Place}
		if a.Rule != nil {
			d.Fault.Rule = a.Rule.Text
		}
	}
	return d
}

// timeAfter paces --traffic.
func timeAfter() <-chan time.Time { return time.After(time.Second) }
