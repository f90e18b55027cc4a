// SPDX-License-Identifier: Apache-2.0

// Rule sets: the recorded ones put back as they were, each with one process per
// tool. Only what names the recorded machine and nothing else is rewritten.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/testenv/netns"
)

// restoreRules puts a node's recorded rule set back, if it is to have one.
func (e *Env) restoreRules(ctx context.Context, node *Node) error {
	if e.noRules {
		return nil
	}
	dir := path.Join(e.Dataplane.recording(), node.Name)
	steps := []struct {
		file string
		cmd  []string
		edit func(string) string
	}{
		{"ipset-save.txt", []string{"ipset", "restore"}, func(text string) string { return e.Dataplane.derive(portableSets(text)) }},
		{"iptables-legacy-save-c.txt", []string{"iptables-legacy-restore", "-w"}, e.Dataplane.derive},
		{"iptables-nft-save-c.txt", []string{"iptables-nft-restore"}, e.Dataplane.derive},
		{"nft-a-list-ruleset.txt", []string{"nft", "-f", "-"}, nativeTables},
	}
	for _, step := range steps {
		text, err := testdata.ReadFile(path.Join(dir, step.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the recorded node had none
		}
		if err != nil {
			return err
		}
		in := string(text)
		if step.edit != nil {
			in = step.edit(in)
		}
		if in == "" {
			continue
		}
		if _, err := e.RunTool(ctx, node.Netns, in, step.cmd...); err != nil {
			return fmt.Errorf("restore %s: %w", step.file, err)
		}
	}
	return nil
}

// RunTool runs a rule tool in a namespace. iptables-legacy locks a file of this
// environment instead of the machine's, so as not to wait for others.
func (e *Env) RunTool(ctx context.Context, ns *netns.Namespace, stdin string, cmd ...string) (string, error) {
	env := []string{"XTABLES_LOCKFILE=" + filepath.Join(e.StateDir, ns.Name+".lock")}
	return ns.RunEnv(ctx, env, stdin, cmd[0], cmd[1:]...)
}

var setTuning = regexp.MustCompile(` bucketsize \d+ initval 0x[0-9a-f]+`)

// portableSets leaves out hash tuning that kernels before 5.11 do not know.
func portableSets(text string) string { return setTuning.ReplaceAllString(text, "") }

// nativeTables leaves out the tables that iptables-nft owns: nft prints their
// rules only in part, iptables-nft-restore brings them.
func nativeTables(text string) string {
	var out strings.Builder
	keep := false
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "table "); ok {
			keep = !iptablesOwned(name)
		}
		if keep {
			out.WriteString(line)
		}
	}
	return out.String()
}

// iptablesOwned tells whether a table, as nft heads it, is one of iptables-nft's.
func iptablesOwned(header string) bool {
	for _, family := range []string{"ip ", "ip6 "} {
		if rest, ok := strings.CutPrefix(header, family); ok {
			name, _, _ := strings.Cut(rest, " ")
			switch name {
			case "raw", "mangle", "nat", "filter", "security":
				return true
			}
		}
	}
	return false
}

// applySysctls writes the recorded per-interface settings of the interfaces
// that exist here, and the node's own.
func (e *Env) applySysctls(node *Node) error {
	text, err := testdata.ReadFile(path.Join(e.Dataplane.recording(), node.Name, "sysctl.txt"))
	if err != nil {
		return err
	}
	links, err := node.Netns.Link().LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	present := map[string]bool{"all": true, "default": true}
	for _, link := range links {
		present[link.Attrs().Name] = true
	}
	return node.Netns.Sysctl(parseSysctls(string(text), present)...)
}

// parseSysctls reads lines of the two kinds
//
//	net.bridge.bridge-nf-call-iptables = 1
//	/proc/sys/net/ipv4/conf/eth0 proxy_arp=0 rp_filter=0
//
// and leaves out interfaces that are not present. ip_forward and its twin
// conf/all/forwarding are left out too: writing them resets all others.
func parseSysctls(text string, present map[string]bool) []netns.Setting {
	var settings []netns.Setting
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, " = "); ok {
			if name != "net.ipv4.ip_forward" {
				settings = append(settings, netns.Setting{Path: strings.ReplaceAll(strings.TrimPrefix(name, "net."), ".", "/"), Value: value})
			}
			continue
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || !present[path.Base(fields[0])] {
			continue
		}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			if key == "forwarding" && path.Base(fields[0]) == "all" {
				continue
			}
			settings = append(settings, netns.Setting{Path: strings.TrimPrefix(fields[0], "/proc/sys/net/") + "/" + key, Value: value})
		}
	}
	return settings
}

// Accounting objects, include/uapi/linux/netfilter/nfnetlink_acct.h and
// nfnetlink.h (6.18).
const (
	nfnlSubsysAcct = 7
	nfnlMsgAcctNew = 0
	nfacctName     = 1
	nfacctPkts     = 2
	nfacctBytes    = 3
)

// addAccounting makes the accounting object that kube-proxy's rules count in
// and makes itself before it writes them.
func addAccounting(ns *netns.Namespace, name string) error {
	// The netlink package has no type for these messages; the generic
	// nfgenmsg header is family, version, resource id.
	req := nl.NewNetlinkRequest(nfnlSubsysAcct<<8|nfnlMsgAcctNew, unix.NLM_F_ACK|unix.NLM_F_CREATE)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nfacctName, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(nfacctPkts, make([]byte, 8)))
	req.AddData(nl.NewRtAttr(nfacctBytes, make([]byte, 8)))
	err := ns.Do(func() error {
		_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("make accounting object %s in %s: %w", name, ns.Name, err)
	}
	return nil
}
