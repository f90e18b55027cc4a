// SPDX-License-Identifier: Apache-2.0

// Faults that somebody makes: a process whose name the tracer has to find.

package fault

import (
	"context"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

// The processes of these faults.
const (
	Flapper = "netscript"
	Agent   = "calico-node"
	Killer  = "node-upgrade"
)

// FlapPeriod is how often the flapping faults set the interface down.
const FlapPeriod = 200 * time.Millisecond

func whoFaults() []Fault {
	return []Fault{
		{Name: "interface-flaps", Code: "interface-down", Kinds: anyKind,
			Doc: "a process named netscript sets the destination pod's interface on the node down and up by netlink, every 200 ms", Apply: flapNetlink},
		{Name: "interface-flaps-ioctl", Code: "interface-down", Kinds: anyKind,
			Doc: "the same by ioctl", Apply: flapIoctl},
		{Name: "calico-node-restart", Code: "calico-node-restart", Kinds: onlyCalico,
			Doc: "a process named node-upgrade kills one named calico-node and deletes the routes to the pods", Apply: killAgent},
	}
}

func flapNetlink(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
	return flap(e, f, flapByNetlink, func(pod *cluster.Pod) (string, error) {
		index, err := pod.Node.Netns.LinkIndex(pod.HostInterface)
		return strconv.Itoa(index), err
	})
}

func flapIoctl(_ context.Context, e *cluster.Env, f flow) (*Applied, error) {
	return flap(e, f, flapByIoctl, func(pod *cluster.Pod) (string, error) { return pod.HostInterface, nil })
}

// flap runs a script that takes the interface, as name gives it, up and down.
func flap(e *cluster.Env, f flow, script string, name func(*cluster.Pod) (string, error)) (*Applied, error) {
	pod, err := localEnd(f.dst, "destination")
	if err != nil {
		return nil, err
	}
	iface, err := name(pod)
	if err != nil {
		return nil, err
	}
	half := strconv.FormatFloat((FlapPeriod / 2).Seconds(), 'f', 3, 64)
	var p *process
	a, err := apply(pod.Node.Name, func(a *Applied) error {
		return a.then(func() (err error) {
			p, err = startScript(e, pod.Node.Netns, Flapper, script, iface, half)
			return err
		}, func() error {
			if err := p.stop(); err != nil {
				return err
			}
			if err := pod.Node.Netns.SetUp(pod.HostInterface); err != nil {
				return err
			}
			if err := pod.Node.Netns.WaitUp(pod.HostInterface); err != nil {
				return err
			}
			return restoreEndpoint(e, pod)()
		})
	})
	if err != nil {
		return nil, err
	}
	a.By, a.Turns = p.pid(), func() int { return int(p.turns.Load()) }
	return a, nil
}

// killAgent has an agent that keeps the node's routes killed, and the routes
// deleted. First they become Felix' own, as they are on a node where it runs.
func killAgent(ctx context.Context, e *cluster.Env, _ flow) (*Applied, error) {
	node := e.Node(1)
	var killer, agent *process
	var routes []string
	restore := func() error { return nil }
	for _, pod := range e.Pods {
		if pod.Node != node {
			continue
		}
		routes = append(routes, pod.IPv4.String())
		before := restore
		restore = func() error {
			if err := before(); err != nil {
				return err
			}
			return e.RestoreEndpoint(pod)
		}
		if err := cluster.MarkFelixRoute(pod); err != nil {
			return nil, err
		}
	}
	a, err := apply(node.Name, func(a *Applied) error {
		return a.then(func() (err error) {
			if agent, err = startScript(e, node.Netns, Agent, waitForEver); err != nil {
				return err
			}
			if killer, err = startScript(e, node.Netns, Killer, upgrade, append([]string{strconv.Itoa(agent.pid())}, routes...)...); err != nil {
				return err
			}
			return killer.wait(ctx)
		}, func() error {
			if err := agent.stop(); err != nil {
				return err
			}
			return restore()
		})
	})
	if err != nil {
		return nil, err
	}
	a.By, a.Victim = killer.pid(), agent.pid()
	return a, nil
}
