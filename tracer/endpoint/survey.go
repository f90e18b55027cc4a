// SPDX-License-Identifier: Apache-2.0

package endpoint

// This file tells how each source of names stands on this node, for people who
// ask before they trace (pathtrace doctor).

import (
	"context"
	"errors"
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/endpoint/kube"
)

// SourceState is how one source of names stands.
type SourceState struct {
	Source string   // CNI cache, Calico interfaces, container runtime, Kubernetes API
	Where  string   // folder, socket or server; "" not found
	Pods   []string // namespace/name of those of this node that it knows
	Note   string   // why it knows none, or what else is to be said
}

// Survey asks every source what it knows. It fails only when the node itself
// cannot be looked at, or when ctx is done.
func (r *Resolver) Survey(ctx context.Context) ([]SourceState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	var states []SourceState
	for _, s := range r.sources() {
		state := SourceState{Source: s.title()}
		pods, err := s.list(ctx, v)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			state.Note = flat(err)
		}
		var names []podName
		for _, p := range pods {
			names = append(names, p.podName)
		}
		for _, name := range uniqueNames(names) {
			state.Pods = append(state.Pods, name.String())
		}
		r.locateSource(ctx, s, &state)
		states = append(states, state)
	}
	return states, nil
}

// locateSource says where a source was found.
func (r *Resolver) locateSource(ctx context.Context, s source, state *SourceState) {
	switch s := s.(type) {
	case *cacheSource:
		state.Where = r.cache.Dir()
	case *runtimeSource:
		if s.client != nil {
			state.Where = s.client.Socket()
		}
	case *clusterSource:
		if s.client != nil {
			state.Where = s.client.Server()
			state.Note = r.tryCluster(ctx, s.client)
		}
	}
}

// tryCluster says what the credentials are good for.
func (r *Resolver) tryCluster(ctx context.Context, client *kube.Client) string {
	with := "with " + client.Source()
	for _, kind := range []string{"pods", "services"} {
		found, err := client.Names(ctx, kind, r.opt.Namespace, "")
		switch {
		case errors.Is(err, kube.ErrForbidden):
			with += fmt.Sprintf(", %s may not be listed", kind)
		case err != nil:
			return with + ": " + err.Error()
		default:
			with += fmt.Sprintf(", %d %s in %s", len(found), kind, r.opt.Namespace)
		}
	}
	return with
}
