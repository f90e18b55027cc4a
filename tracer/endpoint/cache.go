// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds pods by the CNI cache (package cni), and tells living
// entries from those that a crash or a reboot left behind.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cni"
	"github.com/pathtrace/pathtrace/tracer/node"
)

// cacheSource is the CNI cache as a source.
type cacheSource struct{ resolver *Resolver }

func (s *cacheSource) title() string { return "CNI cache" }

func (s *cacheSource) find(ctx context.Context, v *view, pod podName) (answer, error) {
	dir := s.resolver.cache.Dir()
	live, stale, err := s.read(ctx, v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return answer{miss: "no CNI cache at " + dir}, nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return answer{}, err
	case err != nil:
		return answer{miss: err.Error()}, nil
	}
	a := answer{how: "CNI cache " + dir}
	for _, p := range live {
		a.names = append(a.names, p.podName)
		if p.podName == pod {
			a.found = append(a.found, p)
		}
	}
	a.names = uniqueNames(a.names)
	old := slices.IndexFunc(stale, func(at cni.Attachment) bool { return nameOf(at) == pod })
	if old >= 0 {
		a.miss = fmt.Sprintf("only stale in the CNI cache %s (its namespace %s is gone)", dir, orNone(stale[old].Netns))
	} else {
		a.miss = fmt.Sprintf("not in the CNI cache %s (%s)", dir, countPods(a.names))
	}
	return a, nil
}

func (s *cacheSource) list(ctx context.Context, v *view) ([]sandbox, error) {
	live, _, err := s.read(ctx, v)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent{"no CNI cache at " + s.resolver.cache.Dir()}
	}
	return live, err
}

// read gives the sandboxes that live and the entries of those that do not.
func (s *cacheSource) read(ctx context.Context, v *view) (live []sandbox, stale []cni.Attachment, err error) {
	list, err := s.resolver.cache.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	if n := len(list.Problems); n > 0 {
		first := list.Problems[0]
		s.resolver.warn(fmt.Sprintf("CNI cache %s: %d of its files cannot be read, so their pods may not be known by name (%s: %v)",
			s.resolver.cache.Dir(), n, first.File, first.Err))
	}
	at := map[string]int{} // index in live, by sandbox
	for _, a := range list.Attachments {
		p, ok := v.sandboxOf(a, s.resolver.host)
		if !ok {
			stale = append(stale, a)
			continue
		}
		key := p.String() + " " + p.id
		if i, seen := at[key]; seen && p.id != "" {
			live[i].merge(p)
			continue
		}
		at[key] = len(live)
		live = append(live, p)
	}
	return live, stale, nil
}

func nameOf(a cni.Attachment) podName { return podName{a.PodNamespace, a.PodName} }

// sandboxOf judges an entry. It lives when its namespace does, or when the
// interface it names is there with a pod behind it (in a container the
// namespace files may be out of sight). In that case the entry's addresses are
// not believed: Calico gives the next pod of the same name the same interface.
func (v *view) sandboxOf(a cni.Attachment, host hostRoot) (sandbox, bool) {
	p := sandbox{podName: nameOf(a), id: a.ContainerID, hostInterfaces: a.HostInterfaces, addrs: a.Addrs, created: a.Written}
	if inode, ok := host.netns(a.Netns); ok {
		if inode != v.inode {
			p.netns = inode
			return p, true
		}
		return p, false // a path that leads to the node's own namespace is no pod's any more
	}
	for _, name := range a.HostInterfaces {
		if l, ok := v.linkNamed(name); ok && v.leadsToPod(l) {
			p.hostInterfaces, p.addrs = []string{name}, nil
			return p, true
		}
	}
	return sandbox{}, false
}

// merge adds a further network of the same sandbox.
func (p *sandbox) merge(more sandbox) {
	p.addrs = append(p.addrs, more.addrs...)
	p.hostInterfaces = append(p.hostInterfaces, more.hostInterfaces...)
	if p.netns == 0 {
		p.netns = more.netns
	}
	if more.created.After(p.created) {
		p.created = more.created
	}
}

// linkNamed is the node's link of that name.
func (v *view) linkNamed(name string) (node.Link, bool) {
	for _, l := range v.links {
		if l.Name == name {
			return l, true
		}
	}
	return node.Link{}, false
}
