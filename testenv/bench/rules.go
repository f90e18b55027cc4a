// SPDX-License-Identifier: Apache-2.0

// Rules: what Felix writes for one more endpoint, cloned from a recorded one,
// with the tree of dispatch chains it builds over many; and filler rules that
// every forwarded packet is compared with.

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/testenv/cluster"
)

// iptables names a node's save and restore programs.
type iptables struct{ save, restore string }

// iptablesOf gives the programs of a dataplane's rule form.
func iptablesOf(d cluster.Dataplane) (iptables, error) {
	switch {
	case d.Kind() != cluster.Calico:
		return iptables{}, fmt.Errorf("dataplane %s: the benchmark's node is a Calico one", d)
	case d.Form() == cluster.FormLegacy:
		return iptables{"iptables-legacy-save", "iptables-legacy-restore"}, nil
	case d.Form() == cluster.FormNFT:
		return iptables{"iptables-nft-save", "iptables-nft-restore"}, nil
	}
	return iptables{}, fmt.Errorf("dataplane %s: rules for more endpoints are made in iptables' form only; take %s or %s",
		d, cluster.CalicoLegacy, cluster.CalicoNFT)
}

// addRules gives the node the rules of the added pods and the fillers.
func addRules(ctx context.Context, env *cluster.Env, pods []*Pod, fillers int) error {
	tools, err := iptablesOf(env.Dataplane)
	if err != nil {
		return err
	}
	node := env.Node(1)
	saved, err := node.Netns.Run(ctx, "", tools.save, "-t", "filter")
	if err != nil {
		return err
	}
	like := env.Pod(modelPod).HostInterface
	var added, all []string
	for _, pod := range pods {
		added = append(added, pod.HostInterface)
	}
	all = append(all, added...)
	for _, pod := range env.Pods {
		all = append(all, pod.HostInterface)
	}
	text := "*filter\n" + endpointRules(saved, like, added) + dispatchRules(all) + fillerRules(fillers) + "COMMIT\n"
	return restore(ctx, env, tools.restore, text)
}

// modelPod is the recorded pod whose rules are cloned: its profile lets all
// through, after every rule of its chains.
const modelPod = "default/client"

// restore adds rules to those that are there. iptables-legacy locks a file of
// this environment instead of the machine's, so as not to wait for others.
func restore(ctx context.Context, env *cluster.Env, program, text string) error {
	cmd := exec.CommandContext(ctx, program, "--noflush")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &out, &out
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(env.StateDir, "bench.lock"))
	err := env.Node(1).Netns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// endpointRules clones the chains cali-fw-LIKE and cali-tw-LIKE out of what
// iptables-save printed for each of the interfaces.
func endpointRules(saved, like string, interfaces []string) string {
	var chains, rules []string
	for line := range strings.Lines(saved) {
		for _, kind := range []string{"cali-fw-", "cali-tw-"} {
			if strings.HasPrefix(line, ":"+kind+like+" ") {
				chains = append(chains, line)
			}
			if strings.HasPrefix(line, "-A "+kind+like+" ") {
				rules = append(rules, line)
			}
		}
	}
	var b strings.Builder
	for _, part := range [][]string{chains, rules} {
		for _, name := range interfaces {
			for _, line := range part {
				b.WriteString(strings.ReplaceAll(line, like, name))
			}
		}
	}
	return b.String()
}

// dispatchRules writes the dispatch chains anew for all endpoints: one chain
// for every letter after "cali" that several share, as Felix does
// (felix/rules/dispatch.go: buildSingleDispatchChains).
func dispatchRules(interfaces []string) string {
	groups := map[string][]string{}
	for _, name := range interfaces {
		key := name[:len("cali")+1]
		groups[key] = append(groups[key], name)
	}
	keys := make([]string, 0, len(groups))
	for key := range groups {
		slices.Sort(groups[key])
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var chains, rules strings.Builder
	for _, way := range []struct{ root, option, leaf string }{
		{"cali-from-wl-dispatch", "-i", "cali-fw-"}, {"cali-to-wl-dispatch", "-o", "cali-tw-"},
	} {
		var subs strings.Builder
		fmt.Fprintf(&chains, ":%s - [0:0]\n", way.root) // --noflush empties a chain that is named
		for _, key := range keys {
			members := groups[key]
			if len(members) == 1 {
				fmt.Fprintf(&rules, "-A %s %s %s -g %s%s\n", way.root, way.option, members[0], way.leaf, members[0])
				continue
			}
			sub := way.root + "-" + key[len("cali"):]
			fmt.Fprintf(&chains, ":%s - [0:0]\n", sub)
			fmt.Fprintf(&rules, "-A %s %s %s+ -g %s\n", way.root, way.option, key, sub)
			for _, name := range members {
				fmt.Fprintf(&subs, "-A %s %s %s -g %s%s\n", sub, way.option, name, way.leaf, name)
			}
			fmt.Fprintf(&subs, "-A %s -m comment --comment \"Unknown interface\" -j DROP\n", sub)
		}
		fmt.Fprintf(&rules, "-A %s -m comment --comment \"Unknown interface\" -j DROP\n", way.root)
		rules.WriteString(subs.String())
	}
	return chains.String() + rules.String()
}

// fillerChain holds the filler rules; FORWARD goes through it first.
const fillerChain = "bench-filler"

// fillerRules writes n rules that match nothing that is sent here.
func fillerRules(n int) string {
	if n == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, ":%s - [0:0]\n", fillerChain)
	for i := range n {
		fmt.Fprintf(&b, "-A %s -s 100.64.%d.%d/32 -p tcp -m tcp --dport %d -m comment --comment \"filler %d\" -j DROP\n",
			fillerChain, i/250, i%250+1, 1000+i, i+1)
	}
	fmt.Fprintf(&b, "-I FORWARD 1 -j %s\n", fillerChain)
	return b.String()
}
