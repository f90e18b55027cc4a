// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file finds pods by the container runtime (package cri), which also knows
// those that have no entry in the CNI cache: pods in the node's own network.

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/endpoint/cri"
)

// runtimeSource is the container runtime as a source. It connects when it is
// first asked.
type runtimeSource struct {
	given  string // --cri-socket
	host   hostRoot
	client *cri.Client
}

func newRuntimeSource(given string, host hostRoot) *runtimeSource {
	return &runtimeSource{given: given, host: host}
}

func (s *runtimeSource) title() string { return "container runtime" }

func (s *runtimeSource) close() error {
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	s.client = nil
	return err
}

// ready lists the runtime's sandboxes, of the first socket on which one
// answers.
func (s *runtimeSource) ready(ctx context.Context) ([]cri.Sandbox, error) {
	if s.client != nil {
		return s.client.List(ctx)
	}
	sockets := []string{s.given}
	if s.given == "" {
		sockets = cri.DefaultSockets()
		for i := range sockets {
			sockets[i] = s.host.path(sockets[i])
		}
	}
	var failed error
	for _, socket := range sockets {
		client, err := cri.Open(socket)
		if s.given == "" && errors.Is(err, cri.ErrNoSocket) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := client.List(ctx)
		if err == nil {
			s.client = client
			return found, nil
		}
		failed = errors.Join(failed, err, client.Close())
	}
	if failed == nil {
		return nil, errAbsent{"no container runtime socket at the usual places (--cri-socket names it)"}
	}
	return nil, failed
}

func (s *runtimeSource) find(ctx context.Context, v *view, pod podName) (answer, error) {
	ready, err := s.ready(ctx)
	var absent errAbsent
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case errors.As(err, &absent):
		return answer{miss: absent.why}, nil
	case err != nil:
		return answer{miss: "the container runtime cannot be asked (" + flat(err) + ")"}, nil
	}
	a := answer{how: "container runtime " + s.client.Socket()}
	for i := range ready {
		name := podName{ready[i].Namespace, ready[i].Name}
		a.names = append(a.names, name)
		if name != pod {
			continue
		}
		p, ok, err := s.complete(ctx, v, ready[i])
		if err != nil {
			return answer{miss: "the container runtime cannot be asked (" + flat(err) + ")"}, nil
		}
		if ok {
			a.found = append(a.found, p)
		}
	}
	a.names = uniqueNames(a.names)
	a.miss = fmt.Sprintf("not at the container runtime %s (%s)", s.client.Socket(), countPods(a.names))
	return a, nil
}

func (s *runtimeSource) list(ctx context.Context, v *view) ([]sandbox, error) {
	ready, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	var all []sandbox
	for _, r := range ready {
		p, ok, err := s.complete(ctx, v, r)
		if err != nil {
			return all, err
		}
		if ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// complete asks for a sandbox's details. The namespace is taken from the path
// that the runtime names, else from the sandbox's process.
func (s *runtimeSource) complete(ctx context.Context, v *view, r cri.Sandbox) (sandbox, bool, error) {
	ok, err := s.client.Status(ctx, &r)
	if err != nil || !ok {
		return sandbox{}, false, err
	}
	p := sandbox{podName: podName{r.Namespace, r.Name}, id: r.ID, addrs: r.Addrs, created: r.Created, hostNetwork: r.HostNetwork}
	inode, known := s.host.netns(r.Netns)
	if !known && r.PID != 0 {
		inode, known = s.host.netns(fmt.Sprintf("/proc/%d/ns/net", r.PID))
	}
	switch {
	case known && inode == v.inode:
		p.hostNetwork = true
	case known:
		p.netns = inode
	}
	return p, true, nil
}

// flat joins the lines of an error that joins several.
func flat(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
