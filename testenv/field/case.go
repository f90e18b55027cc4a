// SPDX-License-Identifier: Apache-2.0

// Package field has other people's faults: each was reported in public, is rebuilt
// here in as few steps as show it, and is held against the answer that an expert
// would give. They are not this project's own idea of what breaks: docs/field.md
// tells what was said of each before anything was mended.
//
// A case is a row of a table: a node of testenv/cluster, shell lines that set it up,
// lines that break it, traffic, and what must be said. Its healthy twin is the same
// without the lines that break. A line begins with the place it runs in:
//
//	node1: ip route del "$SERVER"
//
// Places are node1, node2, outside (the network between the nodes), the pods client,
// server and web2, and any that the case adds. The lines know the addresses and
// interfaces of the cast by the variables of Cast.
package field

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
	"github.com/pathtrace/pathtrace/testenv/traffic"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Case is one reported fault.
type Case struct {
	Name    string
	Reports []string // owner/repository#number
	Essence string   // what is wrong, in one sentence

	Node cluster.Options // NoRules unless the fault is one of the plugin's rules
	// Modules are those that the kernel must have: without, the case is left out and
	// says so.
	Modules []string
	Since   string // the first kernel that has what the case takes, such as 6.6
	// Tools are programs that the lines run and that not every machine has: without,
	// the case is left out, too.
	Tools  []string
	Places []string // namespaces beside those of the cluster
	Setup  []string // lines: what the twin has too
	Break  []string
	// During are lines that run while it is traced, before the traffic.
	During []string
	// Traffic shows the fault, and the twin where Healthy is not set.
	Traffic traffic.Spec
	Healthy *traffic.Spec
	// Command, where there is one, is a line that sends instead of Traffic, which may
	// be left out then; its exit status does not count.
	Command string
	// Src and Dst are what is traced; "": the traffic's ends.
	Src, Dst string
	Flags    []string // further ones of pathtrace
	// Twin: the twin is traced in VMs, too, though a trace takes long there: modules that
	// are nowhere else leave no other place to see that it gives no finding.
	Twin bool

	Want Want
	// Less is what is wanted of a backend that cannot know all of it, by its name.
	Less map[string]Want

	// Open says why the right answer is not given yet. Such a case is run and what is
	// told is logged; it fails as soon as all is right, so that the mark goes.
	Open string
}

// Wanted is the right answer of a backend.
func (c Case) Wanted(backend string) Want {
	if w, ok := c.Less[backend]; ok {
		return w
	}
	return c.Want
}

// Want is the right answer.
type Want struct {
	Code       string
	Confidence string // "": either
	Direction  model.Direction
	// Says are regular expressions, each of which fits the finding's summary or a
	// line of its evidence or fix; Never are those that fit no line of any finding.
	Says, Never []string
	// Besides are codes of further findings that are right too. Any other finding
	// is a false alarm.
	Besides []string
	Exit    int // 0: 2, as after every death; wellHere: 0
}

// Status is the exit status that is wanted.
func (w Want) Status() int { return max(0, cmp.Or(w.Exit, 2)) }

// wellHere is the exit status where nothing died and nothing is wrong on this node.
const wellHere = -1

// cast is who plays in a case.
type cast struct {
	env    *cluster.Env
	client *cluster.Pod
	server *cluster.Pod
	web2   *cluster.Pod // on node2; nil where there is one node
}

func newCast(e *cluster.Env) cast {
	return cast{env: e, client: e.Pod("default/client"), server: e.Pod("default/server"), web2: e.Pod("default/web2")}
}

// Cast are the variables that lines may use: addresses of pods (CLIENT, SERVER,
// WEB2, and with 6 those of IPv6), the nodes' ends of their interfaces (CLIENT_IF, ...),
// the nodes' addresses (NODE1, NODE2), the gateway outside (GATEWAY), the tunnel
// device (TUNNEL), and NS_place for each place: the name of its namespace. The stage
// adds DIR, a folder of the case's own, CGROUP, a cgroup that it may make, and SELF, the
// test's own binary.
func (c cast) variables() []string {
	vars := []string{"GATEWAY=" + cluster.UnderlayGateway.Addr().String(), "EXTERNAL=" + cluster.ExternalAddr.String()}
	for name, pod := range map[string]*cluster.Pod{"CLIENT": c.client, "SERVER": c.server, "WEB2": c.web2} {
		if pod != nil {
			vars = append(vars, name+"="+pod.IPv4.String(), name+"6="+pod.IPv6.String(), name+"_IF="+pod.HostInterface, name+"_MAC="+pod.MAC)
		}
	}
	for _, n := range c.env.Nodes {
		vars = append(vars, fmt.Sprintf("NODE%d=%s", n.Number, n.Addr), fmt.Sprintf("PODNET%d=%s", n.Number, n.PodNet),
			fmt.Sprintf("VTEP%d=%s", n.Number, n.TunnelAddr), "TUNNEL="+n.Tunnel)
	}
	for name, ns := range c.places() {
		vars = append(vars, "NS_"+name+"="+ns.Name)
	}
	return vars
}

// All lists all cases by name.
func All() []Case {
	all := slices.Concat(routingCases(), linkCases(), natCases(), ruleCases(), programCases(),
		moreLinkCases(), moreRoutingCases(), moreNATCases(), moreFilterCases(), tunnelCases(), ipvsCases(), ipsecCases(), nexthopCases(), answerCases(), nearCases(), goodOrderCases(), remoteCases())
	slices.SortFunc(all, func(a, b Case) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// plain is a node without rules.
func plain(d cluster.Dataplane, nodes int) cluster.Options {
	return cluster.Options{Dataplane: d, Nodes: nodes, NoRules: true}
}

// ping, tcp and udp are an exchange between the pods.
func exchange(proto, src, dst string) traffic.Spec {
	return traffic.Spec{Proto: proto, Src: src, Dst: dst, Count: 2}
}

const (
	client = "default/client"
	server = "default/server"
	web2   = "default/web2"
)
