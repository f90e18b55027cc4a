// SPDX-License-Identifier: Apache-2.0

// Package doctor says what a node lets pathtrace see, before anything is
// traced: in go a node and its sources of names, out comes a report in text or
// JSON. It reads; the backends alone are tried for real, by whoever calls, since
// nothing but loading a program tells whether the kernel takes it.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/pathtrace/pathtrace/tracer/endpoint"
	"github.com/pathtrace/pathtrace/tracer/kernel"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/plane"
)

// Report is what was found. Its JSON form is one object.
type Report struct {
	Type         string        `json:"type"` // "doctor"
	Version      string        `json:"version"`
	Kernel       string        `json:"kernel"`
	BTF          Check         `json:"btf"`
	Capabilities []Check       `json:"capabilities"`
	Backends     []Backend     `json:"backends"`
	Node         *Node         `json:"node,omitempty"` // absent: it could not be looked at, see problems
	Rules        []RuleCounts  `json:"rules,omitempty"`
	CNI          []Dataplane   `json:"cni"`              // empty: none recognised
	Planes       []model.Plane `json:"planes,omitempty"` // what carries packets past what is watched: absent: nothing known
	Names        []NameSource  `json:"names,omitempty"`
	Problems     []string      `json:"problems"` // what could not be found out, and why
}

// Check is one thing that has to be there.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // when not
}

// Backend is one way to watch the kernel, tried.
type Backend struct {
	Name     string   `json:"name"`
	OK       bool     `json:"ok"`
	Why      string   `json:"why,omitempty"` // when not
	Hooks    int      `json:"hooks,omitempty"`
	AttachMS float64  `json:"attach_ms,omitempty"`
	Missed   []Missed `json:"missed,omitempty"`
}

// Missed is a hook that a backend would have liked and did not get.
type Missed struct {
	Hook string `json:"hook"`
	Why  string `json:"why"`
}

// Node is the node's own network namespace and what hangs on it.
type Node struct {
	Netns      uint32   `json:"netns"`
	Addresses  []string `json:"addresses"`
	Uplinks    []string `json:"uplinks"`
	PodNetns   int      `json:"pod_netns"`  // namespaces at the other end of its veths
	Unreadable int      `json:"unreadable"` // processes whose namespace may not be looked at
}

// NameSource is one source of pod names.
type NameSource struct {
	Source string   `json:"source"`
	Where  string   `json:"where,omitempty"`
	Pods   []string `json:"pods"`
	Note   string   `json:"note,omitempty"`
}

// Healthy tells whether a trace can be made at all.
func (r *Report) Healthy() bool {
	return r.Node != nil && slices.ContainsFunc(r.Backends, func(b Backend) bool { return b.OK })
}

// Collect looks at the kernel and, unless ns is nil, at the node and the names.
// Backends and capabilities are the caller's to fill in. What cannot be found
// out becomes a line under Problems.
func Collect(ctx context.Context, version string, ns *node.Namespaces, names *endpoint.Resolver) *Report {
	r := &Report{Type: "doctor", Version: version, Capabilities: []Check{}, Backends: []Backend{}, CNI: []Dataplane{}, Problems: []string{}}
	r.kernel()
	if ns == nil {
		return r
	}
	r.problem(r.node(ctx, ns))
	facts, err := readRules(ctx, ns)
	r.problem(err)
	r.Rules = facts.counts()
	if r.Node != nil {
		links, err := ns.Links(ns.Node().Inode)
		r.problem(err)
		r.CNI = append(r.CNI, recognise(links, facts)...)
		r.Planes, err = plane.Find(ns, pods(ns)...)
		r.problem(err)
	}
	states, err := names.Survey(ctx)
	r.problem(err)
	for _, s := range states {
		r.Names = append(r.Names, NameSource{Source: s.Source, Where: s.Where, Pods: append([]string{}, s.Pods...), Note: s.Note})
	}
	return r
}

// mostPods is of how many pods the devices are looked at.
const mostPods = 64

// pods are the node's pods, to see what carries their packets.
func pods(ns *node.Namespaces) (all []plane.End) {
	members := ns.Members()
	slices.Sort(members)
	for _, in := range members[:min(len(members), mostPods)] {
		all = append(all, plane.End{Netns: []uint32{in}})
	}
	return all
}

// problem notes an error.
func (r *Report) problem(err error) {
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
}

func (r *Report) kernel() {
	release, err := kernel.Release()
	r.problem(err)
	r.Kernel = release
	r.BTF.Name = "kernel type information (BTF)"
	_, err = kernel.Open()
	if r.BTF.OK = err == nil; err != nil {
		r.BTF.Why = err.Error()
	}
}

func (r *Report) node(ctx context.Context, ns *node.Namespaces) error {
	inode := ns.Node().Inode
	links, err := ns.Links(inode)
	if err != nil {
		return err
	}
	uplinks, err := ns.Uplinks()
	if err != nil {
		return err
	}
	n := &Node{Netns: inode, Addresses: []string{}, Uplinks: []string{}, PodNetns: len(ns.Members()), Unreadable: ns.Unreadable()}
	for _, l := range links {
		for _, a := range l.GlobalAddrs() {
			n.Addresses = append(n.Addresses, a.Addr().String())
		}
	}
	for _, name := range uplinks {
		n.Uplinks = append(n.Uplinks, name)
	}
	sort.Strings(n.Uplinks)
	r.Node = n
	if n.Unreadable > 0 {
		r.problem(fmt.Errorf("in which network namespaces %d processes are: not allowed to look; pods of theirs may be missed", n.Unreadable))
	}
	return ctx.Err()
}
