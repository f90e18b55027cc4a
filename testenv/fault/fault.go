// SPDX-License-Identifier: Apache-2.0

// Package fault breaks the nodes of a cluster on purpose: named ways to do so
// for real, each with the code of the finding it must lead to, and each
// reversible. A fault is added by adding one row to a table and one function
// beside it, in the file of what is broken.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// Fault is one way to break a node.
type Fault struct {
	Name  string
	Code  string         // of the finding that names the cause
	Doc   string         // what is done, in one sentence
	Kinds []cluster.Kind // kinds of node it can be done to
	Nodes int            // how many nodes it takes
	// KubeProxy: it takes kube-proxy's rules.
	KubeProxy bool
	// Apply breaks the node for the given traffic. On error nothing is changed.
	Apply func(ctx context.Context, e *cluster.Env, f flow) (*Applied, error)
}

// Applied is a fault in force.
type Applied struct {
	Fault  *Fault
	Rule   *Rule  // the rule that kills, for faults that write one
	Place  string // where it was done: a node's name or a pod's full name
	By     int    // process that did it, for faults that somebody is to be named for
	Victim int    // process that it ended
	// Turns tells how often By has done it so far, for faults that come and go.
	Turns func() int

	undo []func() error
}

// Undo mends what the fault broke, in reverse order. It may be called again, and
// then tries once more what failed.
func (a *Applied) Undo() error {
	var errs []error
	var left []func() error
	for _, fn := range slices.Backward(a.undo) {
		if err := fn(); err != nil {
			errs, left = append(errs, err), append(left, fn)
		}
	}
	slices.Reverse(left)
	a.undo = left
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo fault %s: %w", a.Fault.Name, err)
	}
	return nil
}

// then does one step of a fault and keeps what takes it back.
func (a *Applied) then(do, undo func() error) error {
	if err := do(); err != nil {
		return err
	}
	a.undo = append(a.undo, undo)
	return nil
}

// flow is traffic with its ends looked up. An end that is no pod is nil.
type flow struct {
	traffic.Spec
	src, dst *cluster.Pod
}

var (
	anyKind     = []cluster.Kind{cluster.Calico, cluster.Flannel}
	onlyCalico  = []cluster.Kind{cluster.Calico}
	onlyFlannel = []cluster.Kind{cluster.Flannel}
)

// All lists all faults. Node means node1, the one that is traced.
func All() []Fault {
	return slices.Concat(linkFaults(), routeFaults(), ruleFaults(), dispatchFaults(), conntrackFaults(), tunnelFaults(), wayFaults(), ipvsFaults(), bgpFaults(), farFaults(), programFaults(),
		checksumFaults(), queueFaults(), endFaults(), silenceFaults(), whoFaults())
}

// Find finds a fault by name. The error names all that exist.
func Find(name string) (*Fault, error) {
	all := All()
	for _, f := range all {
		if f.Name == name {
			return &f, nil
		}
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	return nil, fmt.Errorf("fault %q does not exist; take one of %s", name, strings.Join(names, ", "))
}

// Break applies a fault for the given traffic. The caller undoes it. Neighbour
// entries should be warm where a fault would otherwise show as a failed
// neighbour: send the traffic once before.
func Break(ctx context.Context, e *cluster.Env, name string, t traffic.Spec) (*Applied, error) {
	fault, err := Find(name)
	if err != nil {
		return nil, err
	}
	if err := fault.fits(e); err != nil {
		return nil, err
	}
	f := flow{Spec: t.WithDefaults(), src: e.Pod(t.Src), dst: e.Pod(t.Dst)}
	applied, err := fault.Apply(ctx, e, f)
	if err != nil {
		return nil, fmt.Errorf("apply fault %s: %w", name, err)
	}
	applied.Fault = fault
	// the first step to be done is the last one taken back
	applied.undo = slices.Insert(applied.undo, 0, func() error { return forgetUnanswered(e, f) })
	return applied, nil
}

// fits tells whether the fault can be done to an environment.
func (f *Fault) fits(e *cluster.Env) error {
	switch {
	case !slices.Contains(f.Kinds, e.Dataplane.Kind()):
		return fmt.Errorf("fault %s is not for %s nodes", f.Name, e.Dataplane.Kind())
	case f.Nodes > len(e.Nodes):
		return fmt.Errorf("fault %s takes %d nodes, the environment has %d", f.Name, f.Nodes, len(e.Nodes))
	case f.KubeProxy && len(e.Services) == 0:
		return fmt.Errorf("fault %s takes kube-proxy's rules", f.Name)
	}
	return nil
}

// apply runs the steps of a fault; when one fails, those before are taken back.
func apply(place string, steps ...func(a *Applied) error) (*Applied, error) {
	a := &Applied{Fault: &Fault{}, Place: place}
	for _, step := range steps {
		if err := step(a); err != nil {
			return nil, errors.Join(err, a.Undo())
		}
	}
	return a, nil
}

// localEnd returns the pod of a flow's end, which must be on node1.
func localEnd(pod *cluster.Pod, what string) (*cluster.Pod, error) {
	if pod == nil || pod.Node.Number != 1 {
		return nil, fmt.Errorf("the traffic's %s must be a pod on node1", what)
	}
	return pod, nil
}

// sysctl sets values and puts the old ones back.
func sysctl(ns *netns.Namespace, settings ...netns.Setting) func(*Applied) error {
	return func(a *Applied) error {
		for _, s := range settings {
			old, err := ns.ReadSysctl(s.Path)
			if err != nil {
				return err
			}
			err = a.then(func() error { return ns.Sysctl(s) }, func() error { return ns.Sysctl(netns.Setting{Path: s.Path, Value: old}) })
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// command is one call of a rule tool with what it reads.
type command struct {
	stdin string
	args  []string
}

func cmd(args ...string) command { return command{args: args} }

// runTool runs one command in a namespace, and another to take it back.
func runTool(ctx context.Context, e *cluster.Env, ns *netns.Namespace, do, undo command) func(*Applied) error {
	run := func(ctx context.Context, c command) func() error {
		return func() error {
			_, err := e.RunTool(ctx, ns, c.stdin, c.args...)
			return err
		}
	}
	return func(a *Applied) error { return a.then(run(ctx, do), run(context.WithoutCancel(ctx), undo)) }
}
