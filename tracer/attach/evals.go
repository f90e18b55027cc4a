// SPDX-License-Identifier: Apache-2.0

package attach

import "slices"

// Rules of nftables are seen by the expressions they end with (bpf/rules_nft.h).
// Each has a function, some one for each family or kernel, many in a module of
// their own. Only those that a rule set of the node makes use of are attached:
// every function costs all traffic that comes by it.

// eval is one function that evaluates an expression.
type eval struct {
	expr     string // name of the expression as rules have it (NFTA_EXPR_NAME)
	function string
	module   string
}

// evals: net/netfilter/nft_*.c, net/ipv4/netfilter/nft_*.c, net/ipv6/netfilter/
// nft_*.c, Linux 5.17 to 7.3. Which of them a kernel has is asked of its BTF.
func evals() []eval {
	return []eval{
		{"immediate", "nft_immediate_eval", modNFT},
		{"lookup", "nft_lookup_eval", modNFT},
		{"target", "nft_target_eval_xt", "nft_compat"},
		{"target", "nft_target_eval_bridge", "nft_compat"},
		{"counter", "nft_counter_eval", modNFT},
		{"meta", "nft_meta_set_eval", modNFT},
		{"payload", "nft_payload_set_eval", modNFT},
		{"exthdr", "nft_exthdr_tcp_set_eval", modNFT},
		{"ct", "nft_ct_set_eval", "nft_ct"},
		{"ct", "nft_ct_set_zone_eval", "nft_ct"},
		{"objref", "nft_ct_helper_obj_eval", "nft_ct"},
		{"objref", "nft_ct_timeout_obj_eval", "nft_ct"},
		{"notrack", "nft_notrack_eval", "nft_ct"},
		{"objref", "nft_objref_eval", modNFT},
		{"objref", "nft_objref_map_eval", modNFT},
		{"dynset", "nft_dynset_eval", modNFT},
		{"limit", "nft_limit_pkts_eval", "nft_limit"},
		{"limit", "nft_limit_bytes_eval", "nft_limit"},
		{"quota", "nft_quota_eval", "nft_quota"},
		{"connlimit", "nft_connlimit_eval", "nft_connlimit"},
		{"log", "nft_log_eval", "nft_log"},
		{"nat", "nft_nat_eval", "nft_nat"},
		{"nat", "nft_nat_inet_eval", "nft_nat"},
		{"masq", "nft_masq_eval", "nft_masq"},
		{"masq", "nft_masq_ipv4_eval", "nft_masq"},
		{"masq", "nft_masq_ipv6_eval", "nft_masq"},
		{"masq", "nft_masq_inet_eval", "nft_masq"},
		{"redir", "nft_redir_eval", "nft_redir"},
		{"redir", "nft_redir_ipv4_eval", "nft_redir"},
		{"redir", "nft_redir_ipv6_eval", "nft_redir"},
		{"redir", "nft_redir_inet_eval", "nft_redir"},
		{"reject", "nft_reject_ipv4_eval", "nft_reject_ipv4"},
		{"reject", "nft_reject_ipv6_eval", "nft_reject_ipv6"},
		{"reject", "nft_reject_inet_eval", "nft_reject_inet"},
		{"reject", "nft_reject_bridge_eval", "nft_reject_bridge"},
		{"reject", "nft_reject_netdev_eval", "nft_reject_netdev"},
		{"queue", "nft_queue_eval", "nft_queue"},
		{"queue", "nft_queue_sreg_eval", "nft_queue"},
		{"tproxy", "nft_tproxy_eval", "nft_tproxy"},
		{"synproxy", "nft_synproxy_eval", "nft_synproxy"},
		{"dup", "nft_dup_ipv4_eval", "nft_dup_ipv4"},
		{"dup", "nft_dup_ipv6_eval", "nft_dup_ipv6"},
		{"dup", "nft_dup_netdev_eval", "nft_dup_netdev"},
		{"fwd", "nft_fwd_netdev_eval", "nft_fwd_netdev"},
		{"fwd", "nft_fwd_neigh_eval", "nft_fwd_netdev"},
		{"flow_offload", "nft_flow_offload_eval", "nft_flow_offload"},
		{"last", "nft_last_eval", modNFT},
	}
}

// evalHooks gives the rows of the plan for some expressions, allEvalHooks for all.
func evalHooks(exprs []string) []hook {
	return evalRows(func(expr string) bool { return slices.Contains(exprs, expr) })
}

func allEvalHooks() []hook { return evalRows(func(string) bool { return true }) }

func evalRows(of func(expr string) bool) []hook {
	var hooks []hook
	for _, e := range evals() {
		if of(e.expr) {
			hooks = append(hooks, hook{prog: e.function + "_out", module: e.module, arg: 2, typ: typePktinfo,
				loses: "nft rules that end with " + e.expr, quiet: true})
		}
	}
	return hooks
}

// unheard lists those of some expressions none of whose functions is attached.
func unheard(expressions []string, attached func(prog string) bool) []string {
	heard := make(map[string]bool)
	for _, e := range evals() {
		heard[e.expr] = heard[e.expr] || attached(e.function+"_out")
	}
	var missing []string
	for _, expr := range expressions {
		// an expression without a row only compares: it decides nothing
		if got, listed := heard[expr]; listed && !got {
			missing = append(missing, expr)
		}
	}
	slices.Sort(missing)
	return missing
}
