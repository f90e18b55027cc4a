// SPDX-License-Identifier: Apache-2.0

// The node that is measured: a recorded Calico node grown to a size.

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
)

// Size says how large a node is.
type Size struct {
	Dataplane cluster.Dataplane `json:"dataplane"`
	Endpoints int               `json:"endpoints"` // pods, each with its veth and its rules
	Fillers   int               `json:"fillers"`   // rules more, which every forwarded packet is compared with
}

// DefaultSize is a node of 30 endpoints.
func DefaultSize() Size { return Size{Dataplane: cluster.CalicoLegacy, Endpoints: 30} }

// The sizes that can be built: two pods for the measured traffic besides the
// recorded ones, and an address for each.
const (
	minEndpoints = 5
	maxEndpoints = 1000
	maxFillers   = 50000 // their source addresses are all different
)

// Check says what is wrong with a size.
func (s Size) Check() error {
	if s.Endpoints < minEndpoints || s.Endpoints > maxEndpoints {
		return fmt.Errorf("%d endpoints: the node can have %d to %d", s.Endpoints, minEndpoints, maxEndpoints)
	}
	if s.Fillers < 0 || s.Fillers > maxFillers {
		return fmt.Errorf("%d filler rules: the node can have 0 to %d", s.Fillers, maxFillers)
	}
	_, err := iptablesOf(s.Dataplane)
	return err
}

// Node is a node that stands.
type Node struct {
	Size Size
	Env  *cluster.Env
	Pods []*Pod // those made here
	From *Pod   // sends the measured traffic
	To   *Pod   // gets it

	cpuSend, cpuReceive int
	softirqd            softirqd
}

// The traced flow: what the recorded policies let through.
const (
	tracedSrc = "default/server"
	tracedDst = "default/client"
)

// Build builds a node. Nothing is left behind when it fails.
func Build(ctx context.Context, size Size) (*Node, error) {
	if err := size.Check(); err != nil {
		return nil, err
	}
	env, err := cluster.New(ctx, cluster.Options{Dataplane: size.Dataplane})
	if err != nil {
		return nil, err
	}
	n := &Node{Size: size, Env: env}
	if err := n.grow(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("grow the node to %d endpoints: %w", size.Endpoints, err), n.Close())
	}
	return n, nil
}

func (n *Node) grow(ctx context.Context) error {
	cpus, err := CPUs()
	if err != nil {
		return err
	}
	n.cpuSend, n.cpuReceive = cpus[0], cpus[len(cpus)-1]
	if n.softirqd, err = findSoftirqd(); err != nil {
		return err
	}
	node := n.Env.Node(1)
	var link *netlink.Handle
	err = node.Netns.Do(func() (err error) {
		link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer link.Close()
	for i := 1; i <= n.Size.Endpoints-len(n.Env.Pods); i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		pod, err := newPod(n.Env, i)
		if err != nil {
			return err
		}
		n.Pods = append(n.Pods, pod)
		if err := pod.plug(node, link); err != nil {
			return fmt.Errorf("pod %s: %w", pod.Name, err)
		}
	}
	n.From, n.To = n.Pods[0], n.Pods[1]
	return addRules(ctx, n.Env, n.Pods, n.Size.Fillers)
}

// Close removes the node.
func (n *Node) Close() error {
	var errs []error
	for _, pod := range n.Pods {
		errs = append(errs, pod.remove())
	}
	return errors.Join(append(errs, n.Env.Close())...)
}

// idleEvery is the time between two exchanges of the idle traced flow.
const idleEvery = 200 * time.Millisecond

// idleTimeout is how long an exchange of the traced flow may take: on an
// emulated machine that is flooded at the same time it takes long.
const idleTimeout = 5 * time.Second

// keepIdle runs the traced flow, an exchange now and then, until the returned
// function is called. That gives the error of the measurement back, with what was
// wrong with the flow. That an exchange is not answered is no fault while others
// are: the floods starve it.
func (n *Node) keepIdle(ctx context.Context) (stop func(error) error) {
	ctx, cancel := context.WithCancel(ctx)
	var made, answered int
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			r, err := traffic.Send(ctx, n.Env, traffic.Spec{Proto: "udp", Src: tracedSrc, Dst: tracedDst, Count: 1, Timeout: idleTimeout})
			if err != nil && ctx.Err() == nil {
				done <- fmt.Errorf("the traced flow: %w", err)
				return
			}
			made++
			if r.Outcome == traffic.Answered {
				answered++
			}
			select {
			case <-ctx.Done():
			case <-time.After(idleEvery):
			}
		}
		done <- nil
	}()
	return func(err error) error {
		cancel()
		idleErr := <-done
		if idleErr == nil && err == nil && answered == 0 {
			idleErr = fmt.Errorf("of the traced flow's %d exchanges none was answered: it was not traced while others were measured", made)
		}
		return errors.Join(err, idleErr)
	}
}
