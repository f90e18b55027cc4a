// SPDX-License-Identifier: Apache-2.0

// Faults of Calico's dispatch chains: Felix has not come to an endpoint, so that
// what sends a pod's packets to its chains is missing.

package fault

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

func dispatchFaults() []Fault {
	return []Fault{
		{Name: "unknown-interface", Code: "unknown-interface", Kinds: onlyCalico,
			Doc: "cali-from-wl-dispatch does not know the source pod's interface", Apply: unknownInterface("from", "fw")},
		{Name: "unknown-interface-return", Code: "unknown-interface", Kinds: onlyCalico,
			Doc: "cali-to-wl-dispatch does not know the source pod's interface: the reply cannot reach it", Apply: unknownInterface("to", "tw")},
	}
}

// unknownInterface takes the source pod out of one dispatch chain; what it led
// to begins with cali-fw- (from the workload) or cali-tw- (to it).
func unknownInterface(side, chains string) func(context.Context, *cluster.Env, flow) (*Applied, error) {
	return func(ctx context.Context, e *cluster.Env, f flow) (*Applied, error) {
		pod, err := localEnd(f.src, "source")
		if err != nil {
			return nil, err
		}
		chain := "cali-" + side + "-wl-dispatch"
		if e.Dataplane.Form() == cluster.FormNFTables {
			return apply("node1", leaveMap(ctx, e, "filter-"+chain, pod.HostInterface, "filter-cali-"+chains+"-"+pod.HostInterface))
		}
		step, err := leaveChain(ctx, e, chain, pod.HostInterface)
		if err != nil {
			return nil, err
		}
		return apply("node1", step)
	}
}

// leaveMap takes an interface out of one of Calico's native verdict maps.
func leaveMap(ctx context.Context, e *cluster.Env, name, iface, chain string) func(*Applied) error {
	element := func(verb, text string) command {
		return cmd("nft", verb, "element", "ip", "calico", name, "{", text, "}")
	}
	return runTool(ctx, e, e.Node(1).Netns, element("delete", strconv.Quote(iface)), element("add", strconv.Quote(iface)+" : goto "+chain))
}

// leaveChain takes the rule that names an interface out of a chain, and puts it
// back where it was.
func leaveChain(ctx context.Context, e *cluster.Env, chain, iface string) (func(*Applied) error, error) {
	tool, ns := "iptables-"+string(e.Dataplane.Form()), e.Node(1).Netns
	list, err := e.RunTool(ctx, ns, "", tool, "-w", "-S", chain)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(list) {
		rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "+chain+" ")
		if !ok {
			continue
		}
		number++
		if fields := strings.Fields(strings.ReplaceAll(rule, `"`, "")); strings.Contains(rule, " "+iface+" ") {
			at := strconv.Itoa(number)
			return runTool(ctx, e, ns, cmd(tool, "-w", "-D", chain, at), cmd(append([]string{tool, "-w", "-I", chain, at}, fields...)...)), nil
		}
	}
	return nil, fmt.Errorf("no rule of %s names %s", chain, iface)
}
