// SPDX-License-Identifier: Apache-2.0

// The test environment as a whole: what is asked for (Options), what stands
// (Env, Node, Pod), how it comes up and how it goes.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/pathtrace/pathtrace/testenv/echo"
	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/testenv/owner"
)

// Options says what to build.
type Options struct {
	Dataplane Dataplane
	// Nodes is 1 or 2; 0 means 1. With one node the pods of node2 are not made.
	Nodes int
	// KubeProxy adds the rules of a real kube-proxy in the dataplane's rule
	// form; Env.Services tells what they serve.
	// A dataplane whose services are IPVS's has them always.
	KubeProxy bool
	// NoRules leaves the nodes without the dataplane's rules: for faults that have
	// nothing to do with them, on nodes of any plugin.
	NoRules bool
}

// Env is a built environment. Its methods may be called from one goroutine at
// a time, except traffic, which may run at once with anything.
type Env struct {
	Dataplane Dataplane
	Nodes     []*Node
	Pods      []*Pod
	Services  []Service
	Underlay  *netns.Namespace   // the network between the nodes, and the world behind it
	Places    []*netns.Namespace // others that were added
	StateDir  string             // private files: CNI cache, lock files

	noRules bool
	keys    keys   // WireGuard's
	name    string // first part of every namespace's name
	servers map[serverKey]*echo.Server
	mu      sync.Mutex // guards servers
}

// Node is one Kubernetes node.
type Node struct {
	Number     int // 1 or 2
	Name       string
	Addr       netip.Addr // on the underlay
	PodNet     netip.Prefix
	Netns      *netns.Namespace
	Uplink     string // interface to the underlay
	Tunnel     string // interface of the tunnel to the other node; empty: there is none
	TunnelAddr netip.Addr
	TunnelPort int    // UDP; 0: the way to the other node has none
	CNICache   string // what /var/lib/cni is on a real node
}

// Pod is one pod.
type Pod struct {
	Namespace     string
	Name          string
	IPv4          netip.Addr
	IPv6          netip.Addr
	MAC           string // of eth0
	HostInterface string // the veth's end on the node
	Netns         *netns.Namespace
	Node          *Node

	starts           int    // StartPod's
	cached, cachedIn string // Calico: its entry in the CNI cache while it is stopped
}

// FullName is namespace/name.
func (p *Pod) FullName() string { return p.Namespace + "/" + p.Name }

// Addresses of the cluster-to-be, those of the recorded nodes: the rule sets
// hold them.
var (
	UnderlayGateway = netip.MustParsePrefix("172.30.0.254/24")
	// ExternalAddr is a host outside the cluster that answers ICMP and the
	// default ports.
	ExternalAddr = netip.MustParseAddr("172.30.0.9")
	// BadNetAddr is an outside address that the Calico nodes' policy denies.
	BadNetAddr = netip.MustParseAddr("198.51.100.1")
)

// uplink is the interface that leads off a node.
const uplink = "eth0"

// New builds an environment and starts the default servers (TCP and UDP echo on
// DefaultPort in every pod and outside). It needs root. On failure nothing is
// left behind. First of all it removes what dead owners left.
func New(ctx context.Context, opts Options) (*Env, error) {
	if opts.Nodes == 0 {
		opts.Nodes = 1
	}
	opts.KubeProxy = opts.KubeProxy || opts.Dataplane.IPVS()
	if err := check(opts); err != nil {
		return nil, err
	}
	if _, err := owner.CleanStale(); err != nil {
		return nil, err
	}
	e, err := newEnv(opts)
	if err != nil {
		return nil, err
	}
	if err := e.build(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("build %s test node: %w", opts.Dataplane, err), e.Close())
	}
	return e, nil
}

func check(opts Options) error {
	if _, err := ParseDataplane(string(opts.Dataplane)); err != nil {
		return err
	}
	if opts.Nodes < 1 || opts.Nodes > 2 {
		return fmt.Errorf("cannot build %d nodes: take 1 or 2", opts.Nodes)
	}
	if os.Geteuid() != 0 {
		return errors.New("test nodes need root, to make network namespaces: run as root")
	}
	if err := checkTools(opts.Dataplane); err != nil {
		return err
	}
	return checkModules(opts.Dataplane)
}

func newEnv(opts Options) (*Env, error) {
	var k keys
	if opts.Dataplane.Way() == WayWireGuard {
		var err error
		if k, err = makeKeys(); err != nil {
			return nil, err
		}
	}
	name, stateDir, err := owner.Claim()
	if err != nil {
		return nil, err
	}
	return &Env{Dataplane: opts.Dataplane, noRules: opts.NoRules, keys: k, StateDir: stateDir, name: name, servers: map[serverKey]*echo.Server{}}, nil
}

// build makes the namespaces, then the nodes side by side.
func (e *Env) build(ctx context.Context, opts Options) error {
	if err := netns.ShareDir(); err != nil {
		return err
	}
	if err := loadModules(ctx); err != nil {
		return err
	}
	if err := e.buildUnderlay(); err != nil {
		return fmt.Errorf("underlay: %w", err)
	}
	plan, err := planPods(e.Dataplane)
	if err != nil {
		return err
	}
	errs := make(chan error, opts.Nodes)
	for number := 1; number <= opts.Nodes; number++ {
		node, err := e.addNode(number)
		if err != nil {
			return err
		}
		pods, err := e.addPods(node, plan)
		if err != nil {
			return err
		}
		go func() { errs <- e.buildNode(ctx, node, pods, opts) }()
	}
	var all []error
	for range opts.Nodes {
		all = append(all, <-errs)
	}
	if err := errors.Join(all...); err != nil {
		return err
	}
	if err := e.awaitLinks(); err != nil {
		return err
	}
	return e.startServers()
}

// awaitLinks waits until the links carry packets: a bridge drops what comes by a
// port that does not forward yet.
func (e *Env) awaitLinks() error {
	for _, node := range e.Nodes {
		if err := errors.Join(node.Netns.WaitUp(node.Uplink), e.Underlay.WaitUp(node.Name)); err != nil {
			return fmt.Errorf("%s: %w", node.Name, err)
		}
	}
	for _, pod := range e.Pods {
		if err := pod.awaitLinks(); err != nil {
			return err
		}
	}
	return nil
}

// awaitLinks waits for both ends of the pod's veth.
func (p *Pod) awaitLinks() error {
	if err := errors.Join(p.Node.Netns.WaitUp(p.HostInterface), p.Netns.WaitUp("eth0")); err != nil {
		return fmt.Errorf("pod %s: %w", p.FullName(), err)
	}
	return nil
}

func (e *Env) buildNode(ctx context.Context, node *Node, pods []*Pod, opts Options) error {
	build := map[Kind]func(context.Context, *Node, []*Pod) error{
		Calico: e.buildCalico, Flannel: e.buildFlannel,
	}[e.Dataplane.Kind()]
	if err := e.joinUnderlay(node); err != nil {
		return fmt.Errorf("%s: %w", node.Name, err)
	}
	if err := build(ctx, node, pods); err != nil {
		return fmt.Errorf("%s: %w", node.Name, err)
	}
	if err := e.tuneNeighbors(node, pods); err != nil {
		return fmt.Errorf("%s: neighbours: %w", node.Name, err)
	}
	if opts.KubeProxy {
		if err := e.restoreKubeProxy(ctx, node); err != nil {
			return fmt.Errorf("%s: kube-proxy rules: %w", node.Name, err)
		}
	}
	return nil
}

// addNode makes node's namespace and describes it.
func (e *Env) addNode(number int) (*Node, error) {
	name := fmt.Sprintf("node%d", number)
	ns, err := netns.New(e.name + "-" + name)
	if err != nil {
		return nil, err
	}
	f := e.facts(number)
	node := &Node{
		Number: number, Name: name, Netns: ns, Uplink: uplink,
		Tunnel: f.tunnel, TunnelAddr: f.tunnelIP, TunnelPort: f.port,
		Addr: f.addr, PodNet: f.podNet, CNICache: filepath.Join(e.StateDir, name, "cni"),
	}
	e.Nodes = append(e.Nodes, node)
	return node, os.MkdirAll(filepath.Join(node.CNICache, "results"), 0o755)
}

// addPods makes the namespaces of node's pods.
func (e *Env) addPods(node *Node, plan []podPlan) ([]*Pod, error) {
	var pods []*Pod
	for _, p := range plan {
		if p.node != node.Number {
			continue
		}
		ns, err := netns.New(e.name + "-" + p.name)
		if err != nil {
			return nil, err
		}
		pod := &Pod{
			Namespace: p.namespace, Name: p.name, IPv4: p.ipv4, IPv6: p.ipv6, MAC: p.mac,
			HostInterface: p.hostInterface, Netns: ns, Node: node,
		}
		e.Pods = append(e.Pods, pod)
		pods = append(pods, pod)
		if err := ns.Sysctl(noDAD...); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

// noDAD makes IPv6 addresses usable at once: nobody else is on these links.
var noDAD = []netns.Setting{
	{Path: "ipv6/conf/all/accept_dad", Value: "0"},
	{Path: "ipv6/conf/default/accept_dad", Value: "0"},
	{Path: "ipv6/conf/default/dad_transmits", Value: "0"},
	{Path: "ipv6/conf/default/accept_ra", Value: "0"},
	{Path: "ipv6/conf/default/router_solicitations", Value: "0"},
}

// AddPlace makes an empty namespace that goes with the environment: a second
// router, a pod of a test's own.
func (e *Env) AddPlace(name string) (*netns.Namespace, error) {
	ns, err := netns.New(e.name + "-" + name)
	if err != nil {
		return nil, err
	}
	e.Places = append(e.Places, ns)
	return ns, ns.Sysctl(noDAD...)
}

// Close stops the servers and removes every namespace and file. It may be
// called twice.
func (e *Env) Close() error {
	e.stopServers()
	var errs []error
	for _, pod := range e.Pods {
		errs = append(errs, pod.Netns.Remove())
	}
	for _, node := range e.Nodes {
		errs = append(errs, node.Netns.Remove())
	}
	if e.Underlay != nil {
		errs = append(errs, e.Underlay.Remove())
	}
	for _, place := range e.Places {
		errs = append(errs, place.Remove())
	}
	err := errors.Join(errs...)
	if err == nil { // as long as a namespace is left nobody else may have the name
		err = os.RemoveAll(e.StateDir)
	}
	if err != nil {
		return fmt.Errorf("remove test environment %s: %w", e.name, err)
	}
	return nil
}

// Node returns node 1 or 2, nil when it was not built.
func (e *Env) Node(number int) *Node {
	for _, node := range e.Nodes {
		if node.Number == number {
			return node
		}
	}
	return nil
}

// Pod returns a pod by namespace/name, nil when it was not built.
func (e *Env) Pod(fullName string) *Pod {
	for _, pod := range e.Pods {
		if pod.FullName() == fullName {
			return pod
		}
	}
	return nil
}
