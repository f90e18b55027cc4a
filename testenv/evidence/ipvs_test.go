// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/testenv/netns"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// What ipvsadm -Ln and -Lnc, and ip, say of the node of these tests.
const (
	toldServices = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.20:80 rr
  -> 10.244.1.3:8080              Masq    1      0          0
UDP  10.96.0.20:80 lc persistent 10800
TCP  10.96.0.30:80 rr
  -> 10.244.1.4:8080              Masq    1      0          0
FWM  7 rr
  -> 172.30.0.2:80                Route   1      0          0
`
	toldConnections = `IPVS connection entries
pro expire state       source             virtual            destination
UDP 04:59  UDP         10.244.1.2:40000   10.96.0.20:80      10.244.1.3:8080
`
)

// TestIPVSStatements: each statement passes where it is so, and fails where not.
func TestIPVSStatements(t *testing.T) {
	const service, server = "ipvsadm -Ln: TCP 10.96.0.20:80 rr", "ipvsadm -Ln: -> 10.244.1.3:8080 Masq, weight 1, 0 active and 0 inactive connections"
	const keeps = "kube-ipvs0, on which kube-proxy keeps the addresses of services, has "
	for name, tc := range map[string]struct {
		evidence []string
		addrs    string // of kube-ipvs0
		wrong    string // "": it is so
	}{
		"a service":                 {[]string{service}, "", ""},
		"of another scheduler":      {[]string{"ipvsadm -Ln: TCP 10.96.0.20:80 lc"}, "", "no such service"},
		"a server":                  {[]string{service, server}, "", ""},
		"by mark":                   {[]string{"ipvsadm -Ln: FWM 7 rr", "ipvsadm -Ln: -> 172.30.0.2:80 Route, weight 1, 0 active and 0 inactive connections"}, "", ""},
		"of another service":        {[]string{"ipvsadm -Ln: TCP 10.96.0.30:80 rr", server}, "", "no such real server of its service"},
		"of another protocol":       {[]string{"ipvsadm -Ln: UDP 10.96.0.20:80 lc persistent 10800", server}, "", "no such real server of its service"},
		"of another weight":         {[]string{service, strings.Replace(server, "weight 1", "weight 0", 1)}, "", "no such real server of its service"},
		"of no service":             {[]string{server}, "", "no service is told with it"},
		"its service comes later":   {[]string{server, service}, "", "no such real server"},
		"none":                      {[]string{"ipvsadm -Ln: UDP 10.96.0.20:80 lc, without a real server"}, "", ""},
		"none of a persistent one":  {[]string{"ipvsadm -Ln: UDP 10.96.0.20:80 lc persistent 10800, without a real server"}, "", ""},
		"there is one":              {[]string{service + ", without a real server"}, "", "it has one: 10.244.1.3:8080"},
		"there is one, of the last": {[]string{"ipvsadm -Ln: FWM 7 rr, without a real server"}, "", "it has one: 172.30.0.2:80"},
		"none, and no service":      {[]string{"ipvsadm -Ln: TCP 10.96.0.40:80 rr, without a real server"}, "", "no such service"},
		"no entry":                  {[]string{"ipvsadm -Lnc has no TCP entry from 10.244.1.2:40000 to 10.96.0.20:80"}, "", ""},
		"an entry":                  {[]string{"ipvsadm -Lnc has no UDP entry from 10.244.1.2:40000 to 10.96.0.20:80"}, "", "it has: UDP"},
		"no address":                {[]string{keeps + "no address"}, "", ""},
		"an address":                {[]string{keeps + "no address"}, "9: kube-ipvs0    inet 10.96.0.20/32 scope global kube-ipvs0", "it has: "},
		"an IPv6 address":           {[]string{keeps + "no address"}, "9: kube-ipvs0    inet6 fd00:96::20/128 scope global", "it has: "},
		"that address":              {[]string{keeps + "10.96.0.20/32"}, "9: kube-ipvs0    inet 10.96.0.20/32 scope global kube-ipvs0", ""},
		"not that address":          {[]string{keeps + "10.96.0.30/32"}, "9: kube-ipvs0    inet 10.96.0.20/32 scope global kube-ipvs0", "it has not 10.96.0.30/32"},
	} {
		c := &Court{node: &netns.Namespace{Name: "n"}, asked: map[string]string{"n ipvsadm -Ln": toldServices, "n ipvsadm -Lnc": toldConnections, "n ip -o addr show dev kube-ipvs0": tc.addrs}}
		problems := c.Problems(model.Finding{Evidence: tc.evidence})
		if (tc.wrong == "") != (len(problems) == 0) || !slices.ContainsFunc(append(problems, ""), func(p string) bool { return strings.Contains(p, tc.wrong) }) {
			t.Errorf("%s: %q, want %q", name, problems, tc.wrong)
		}
	}
}

// TestMasqueradeStatements: what a set holds, and what no rule of table nat has.
func TestMasqueradeStatements(t *testing.T) {
	const save = "*mangle\n-A KUBE-SERVICES -j KUBE-MARK-MASQ\nCOMMIT\n*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ\n-A OTHER -j KUBE-POSTROUTING\nCOMMIT\n"
	test := func(set, element string) string {
		return `n sh -c ipset -q test "$1" "$2" && echo yes || echo no sh ` + set + " " + element
	}
	packet := model.Packet{ID: 7, Src: netip.MustParseAddr("172.30.0.254"), Outcome: model.LeftNode, Hops: []model.Hop{{Stage: model.StageTransmit, Interface: "eth0"}}}
	for name, tc := range map[string]struct {
		evidence string
		wrong    string // "": it is so
	}{
		"held":            {"ipset KUBE-CLUSTER-IP holds 10.96.0.20,tcp:80", ""},
		"not held":        {"ipset KUBE-CLUSTER-IP does not hold 10.96.0.30,tcp:80", ""},
		"held after all":  {"ipset KUBE-CLUSTER-IP does not hold 10.96.0.20,tcp:80", "ipset test says"},
		"not held at all": {"ipset KUBE-CLUSTER-IP holds 10.96.0.30,tcp:80", "ipset test says"},
		"of no set":       {"ipset KUBE-EXTERNAL-IP does not hold 10.96.0.30,tcp:80", "no such set"},
		"no set":          {"there is no ipset KUBE-EXTERNAL-IP", ""},
		"a set":           {"there is no ipset KUBE-CLUSTER-IP", "shows it"},
		"no rule":         {"iptables-save -t nat: no rule of KUBE-SERVICES has --match-set KUBE-CLUSTER-IP src,dst and -j KUBE-MARK-MASQ", ""},
		"none of a chain": {"iptables-save -t nat: no rule of POSTROUTING has -j KUBE-POSTROUTING", ""},
		"a rule":          {"iptables-save -t nat: no rule of KUBE-SERVICES has --match-set KUBE-CLUSTER-IP dst,dst and -j KUBE-MARK-MASQ", "it has: -A KUBE-SERVICES"},
		"left so":         {"it left by eth0 with the source 172.30.0.254", ""},
		"left otherwise":  {"it left by eth0 with the source 172.30.0.1", "none of its packets"},
		"by another":      {"it left by eth1 with the source 172.30.0.254", "none of its packets"},
	} {
		c := &Court{node: &netns.Namespace{Name: "n"}, packets: map[uint64]model.Packet{7: packet}, asked: map[string]string{"n ipset list -n": "KUBE-CLUSTER-IP\nKUBE-LOOP-BACK\n",
			test("KUBE-CLUSTER-IP", "10.96.0.20,tcp:80"): "yes\n", test("KUBE-CLUSTER-IP", "10.96.0.30,tcp:80"): "no\n",
			"n iptables-legacy-save": save, "n iptables-nft-save": "", "n ip6tables-legacy-save": "", "n ip6tables-nft-save": ""}}
		problems := c.Problems(model.Finding{Evidence: []string{tc.evidence}, Packets: []uint64{7}})
		if (tc.wrong == "") != (len(problems) == 0) || !slices.ContainsFunc(append(problems, ""), func(p string) bool { return strings.Contains(p, tc.wrong) }) {
			t.Errorf("%s: %q, want %q", name, problems, tc.wrong)
		}
	}
}
