// SPDX-License-Identifier: Apache-2.0

package cause

// This file is the table of causes. The order settles which one counts where
// several fit: what the kernel says plainly before what is read off the state,
// the special before the general. docs/causes.md has a section for each code.

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

var causes = []cause{
	// IPVS has nobody to send it to, or another
	{"service-no-backend", noRealServer},
	{"ipvs-rescheduled", rescheduled},
	// a packet filter killed it
	{"conntrack-insert", insertFailed},
	{"queue-no-listener", queueNoListener},
	{"queue-full", queueTooSlow},
	{"rule-drop", queueVerdict},
	{"vxlan-blocked", tunnelBlocked(isVXLAN)},
	{"tunnel-blocked", tunnelBlocked(notVXLAN)},
	{"split-rulesets", splitRuleSets},
	{"conntrack-unknown", unknownToConntrack},
	{"unknown-interface", ofKind(endpointFix, meaning.UnknownInterface)},
	{"masquerade-missing", sentBack},
	{"duplicate-address", duplicateAddress},
	{"calico-node-restart", agentRestartBack},
	{"calico-rpf", calicoReversePath},
	{"policy-deny", policyDenied},
	{"service-no-backend", emptyService},
	{"conntrack-invalid", invalid},
	{"forward-policy", forwardPolicy},
	{"conntrack-full", conntrackFull},
	{"no-listener", tproxyUnheard},
	{"rule-drop", strangersRule},
	{"rule-drop", overLimit},
	{"rule-drop", reversePathRule},
	{"rule-drop", hookPolicy},
	{"rule-drop", anyRule},
	// the kernel gave its reason
	{"checksum", checksum},
	{"tc-drop", tcDrop},
	{"ipsec-policy", ipsecPolicy},
	{"duplicate-address", doubledMAC},
	{"bridge-port", unplugged},
	{"stale-neighbor", strandedPacket},
	{"program-drop", programDrop},
	{"multicast", multicast},
	{"sysctl-drop", sysctlDrop},
	{"sysctl-drop", noFragmentRoom},
	{"link-local-source", linkLocalSource},
	{"ip-forward-off", forwardOff},
	{"rp-filter", ownSource},
	{"rp-filter", reversePath},
	{"mtu", tooBig},
	{"wireguard", wireGuardCause},
	{"vxlan-broken", tunnelToSelf},
	{"loop", circled},
	{"ttl", hopLimit},
	// a link behind what the kernel said
	{"interface-down", interfaceDown},
	// the frame, and the ports it was to pass
	{"bridge-port", bridgePort},
	{"stale-neighbor", staleNeighbor},
	{"stale-conntrack", stale},
	{"stale-conntrack", overtaken},
	{"vxlan-broken", tunnelOwnMAC},
	{"vxlan-broken", vxlanBroken},
	{"tunnel-broken", tunnelBroken},
	{"calico-node-restart", agentRestart},
	{"blackhole-route", serverBlackholed},
	{"blackhole-route", blackhole},
	{"bgp-blocked", bgpNoRoute},
	{"no-route", serverUnrouted},
	{"no-route", noRoute},
	{"ip-forward-off", proxyForwardOff},
	{"rp-filter", proxySource},
	{"neighbor-failed", unheldNeighbor},
	{"neighbor-failed", neighborFailed},
	{"queue-full", queueFull},
	// it arrived, and was turned away
	{"ipvs-unknown", unknownToIPVS},
	{"reply-not-translated", replyNotTranslated},
	{"conntrack-unknown", lateAnswer},
	{"reply-not-translated", translatedElsewhere},
	{"answer-from-elsewhere", answersFromPort},
	{"conntrack-unknown", entryGone},
	{"no-listener", noListener},
	// nothing of all that
	{"unexplained-drop", unexplained},
}

// arrivals are asked of what arrived and got no answer, though it came again, or was
// reset in the midst of its connection, by another one than before.
var arrivals = []cause{
	{"queue-full", acceptQueue},
	{"conntrack-unknown", entryGone},
}

// closings are asked when the trace is over, in this order, about what no packet
// by itself tells.
var closings = []closing{
	{"tunnel-blocked", unopenedDeaths},
	{"duplicate-address", strayReplies},
	{"stale-conntrack", closingOf(wentAstray("stale-conntrack"))},
	{"loop", closingOf(loopAstray)},
	{"loop", loopsBack},
	{"asymmetric-return", asymmetricReturn},
	{"conntrack-unknown", closingOf(wentAstray("conntrack-unknown"))},
	{"vxlan-broken", closingOf(wentAstray("vxlan-broken"))},
	{"tunnel-broken", closingOf(wentAstray("tunnel-broken"))},
	{"service-untranslated", closingOf(serviceNotTaken)},
	{"address-not-local", closingOf(notLocal)},
	{"service-untranslated", closingOf(serviceUntranslated)},
	{"service-untranslated", closingOf(askedBeside)},
	{"bgp-blocked", closingOf(wentAstray("bgp-blocked"))},
	{"calico-node-restart", closingOf(restartAstray)},
	{"no-route", closingOf(routeAstray)},
	{"misrouted", closingOf(wentAstray("misrouted"))},
	{"calico-node-restart", lostTheWay(restartAstray)},
	{"no-route", lostTheWay(routeAstray)},
	{"misrouted", lostTheWay(wentAstray("misrouted"))},
	{"masquerade-missing", closingOf(unmasqueraded)},
	{"masquerade", closingOf(masquerade)},
	{"masquerade", closingOf(foreignSource)},
	{"wireguard", closingOf(wireGuardQuiet)},
	{"left-node", closingOf(leftNode)},
	{"answer-from-elsewhere", answeredElsewhere},
	{"unanswered", unansweredAsks},
	{"not-sent", notSent},
}

// Codes lists the codes of all causes, in the tables' order.
func Codes() (all []string) {
	add := func(code string) {
		if !slices.Contains(all, code) {
			all = append(all, code)
		}
	}
	for _, c := range causes {
		add(c.code)
	}
	for _, c := range closings {
		add(c.code)
	}
	return all
}
