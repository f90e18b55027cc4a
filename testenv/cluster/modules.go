// SPDX-License-Identifier: Apache-2.0

// Kernel modules and programs a test node needs. In a VM with a stock kernel
// nearly everything is a module; loading all in one call is much faster than
// having the kernel start modprobe for each.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules are what the rule sets and links use. Which of them exist, under
// which name, differs between kernels; what is truly missing shows when the
// link or rule that needs it is refused.
var modules = []string{
	"veth", "bridge", "br_netfilter", "vxlan",
	"ip_set_hash_ip", "ip_set_hash_net", "ip_set_hash_ipport", "xt_set",
	"iptable_raw", "iptable_mangle", "iptable_nat", "iptable_filter",
	"ip6table_raw", "ip6table_mangle", "ip6table_nat", "ip6table_filter",
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_ct", "nft_masq", "nft_nat", "nft_numgen", "nft_log",
	"nft_fib_ipv4", "nft_fib_ipv6", "nft_reject_ipv4", "nft_reject_ipv6", "nft_counter",
	"xt_comment", "xt_mark", "xt_conntrack", "xt_multiport", "xt_addrtype", "xt_MASQUERADE", "xt_nat", "xt_CT",
	"xt_NFLOG", "xt_NFQUEUE", "nfnetlink_queue", "xt_LOG", "nf_log_syslog", "xt_statistic", "xt_recent", "xt_nfacct", "xt_tcpudp", "nfnetlink_acct",
	"cls_bpf", "sch_ingress", "ipt_rpfilter", "ipt_REJECT", "ip6t_REJECT", "ip6t_rpfilter", "xt_physdev", "nf_conntrack_netlink",
}

// loadModules loads what this kernel has as modules. A kernel without a modules
// folder has everything built in.
func loadModules(ctx context.Context) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	missing, err := missingModules()
	if err != nil || len(missing) == 0 {
		return err
	}
	// Best effort by design: see the comment on modules.
	_ = exec.CommandContext(ctx, "modprobe", append([]string{"-a", "-q"}, missing...)...).Run()
	return ctx.Err()
}

// missingModules lists those of modules that are not loaded yet.
func missingModules() ([]string, error) {
	text, err := os.ReadFile("/proc/modules")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	loaded := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		loaded[name] = true
	}
	var missing []string
	for _, m := range modules {
		if !loaded[m] {
			missing = append(missing, m)
		}
	}
	return missing, nil
}

// ErrLacking is that this kernel lacks what a dataplane takes: its nodes can be built
// on another one.
var ErrLacking = errors.New("not in this kernel")

// checkModules loads what the dataplane takes beside modules, and names the first that
// this kernel does not have.
func checkModules(d Dataplane) error {
	for _, m := range d.design().modules {
		if _, err := os.Stat("/sys/module/" + m); err == nil {
			continue
		}
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			return fmt.Errorf("%s test nodes need the kernel module %s: %w: %s", d, m, ErrLacking, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// checkTools names every program that is missing, and the package it is in.
func checkTools(d Dataplane) error {
	need := map[string]string{"nft": "nftables", "iptables-legacy-restore": "iptables", "iptables-nft-restore": "iptables"}
	if d.Kind() == Calico {
		need["ipset"] = "ipset"
	}
	if d.Kind() == Flannel {
		need[filepath.Join(cniPluginDir, "bridge")] = "containernetworking-plugins"
	}
	if d.IPVS() {
		need["ipvsadm"] = "ipvsadm"
	}
	if d.Way() == WayWireGuard {
		need["wg"] = "wireguard-tools"
	}
	var missing []string
	for tool, pkg := range need {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", tool, pkg))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("test nodes need programs that are not installed: %s", strings.Join(missing, ", "))
	}
	return nil
}
