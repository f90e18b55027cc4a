// SPDX-License-Identifier: Apache-2.0

// What became of real packets on the recorded nodes, as a user would read it.
// Each rule of a path has matched packets there (the counters say so), and each
// dropping one has dropped them.

package meaning

import (
	"strings"
	"testing"
)

// calicoSets are the three ways Felix programmed the same policies.
var calicoSets = []struct{ name, path string }{
	{"legacy", "calico-legacy/node1/iptables-legacy-save-c.txt.gz"},
	{"iptables-nft", "calico-nft/node1/iptables-nft-save-c.txt.gz"},
	{"native", "calico-nftables/node1/nft-a-list-ruleset.txt.gz"},
}

var pods = map[string]string{
	"cali7715d358f22": "default/server",
	"calia7a3e029a7b": "default/client",
	"calibc0d3acf431": "prod/db",
}

// native gives a rule's name in native nftables mode: one table, whole names,
// and a verdict map in place of the dispatch chains' rules.
func native(names []string) []string {
	var list []string
	for _, n := range names {
		n = "calico/" + strings.ReplaceAll(n, "filter/", "filter-")
		n = strings.ReplaceAll(n, "cali-pi-_0EoDlAMicMSWivwSe1B", "cali-pi-np/default/server-ingress")
		if chain, _, _ := strings.Cut(n, "#"); strings.HasSuffix(chain, "-wl-dispatch") {
			n = chain + "#1"
		}
		list = append(list, n)
	}
	return list
}

// The ways from the pods into the node's FORWARD, allowed by their profile.
var (
	fromDB = []string{"filter/FORWARD#1", "filter/cali-FORWARD#1", "filter/cali-FORWARD#2", "filter/cali-FORWARD#3",
		"filter/cali-from-wl-dispatch#3", "filter/cali-fw-calibc0d3acf431#3", "filter/cali-fw-calibc0d3acf431#6",
		"filter/cali-fw-calibc0d3acf431#7", "filter/cali-po-gnp/deny-bad-nets#3", "filter/cali-fw-calibc0d3acf431#12",
		"filter/cali-pro-kns.prod#1", "filter/cali-fw-calibc0d3acf431#13", "filter/cali-FORWARD#4"}
	intoPolicies = []string{"filter/FORWARD#1", "filter/cali-FORWARD#1", "filter/cali-FORWARD#2", "filter/cali-FORWARD#3",
		"filter/cali-from-wl-dispatch#2", "filter/cali-fw-calia7a3e029a7b#3", "filter/cali-fw-calia7a3e029a7b#6",
		"filter/cali-fw-calia7a3e029a7b#7"}
	fromClient = append(append([]string{}, intoPolicies...), "filter/cali-po-gnp/deny-bad-nets#3", "filter/cali-fw-calia7a3e029a7b#10",
		"filter/cali-pro-kns.default#1", "filter/cali-fw-calia7a3e029a7b#11", "filter/cali-FORWARD#4")
	toServer = []string{"filter/cali-to-wl-dispatch#1", "filter/cali-tw-cali7715d358f22#3", "filter/cali-tw-cali7715d358f22#4",
		"filter/cali-tw-cali7715d358f22#5", "filter/cali-pi-_0EoDlAMicMSWivwSe1B#3"}
)

var calicoOutcomes = []struct {
	name  string
	ways  [][]string
	kind  Kind
	cause string // the rule that set the mark
	want  string // with everything known
	bare  string // with the path and nothing else; "": the same without the pod's name
}{
	{"db to server: no rule of the policy allows it", [][]string{fromDB, toServer, {"filter/cali-tw-cali7715d358f22#7"}}, TierEnd, "",
		"Calico NetworkPolicy default/server-ingress (ingress of pod default/server behind cali7715d358f22) does not allow it: end of tier default",
		"the Calico policy of chain cali-pi-_0EoDlAMicMSWivwSe1B (ingress of the pod behind cali7715d358f22) does not allow it: end of tier default"},
	{"client to db: the policy denies it", [][]string{fromClient, {"filter/cali-to-wl-dispatch#3", "filter/cali-tw-calibc0d3acf431#3",
		"filter/cali-tw-calibc0d3acf431#4", "filter/cali-tw-calibc0d3acf431#5", "filter/cali-pi-np/prod/db-ingress#2", "filter/cali-pi-np/prod/db-ingress#3"}},
		PolicyDeny, "filter/cali-pi-np/prod/db-ingress#2",
		"Calico NetworkPolicy prod/db-ingress (ingress of pod prod/db behind calibc0d3acf431) denies it", ""},
	{"client to a denied network", [][]string{intoPolicies, {"filter/cali-po-gnp/deny-bad-nets#1", "filter/cali-po-gnp/deny-bad-nets#2"}},
		PolicyDeny, "filter/cali-po-gnp/deny-bad-nets#1",
		"Calico GlobalNetworkPolicy deny-bad-nets (egress of pod default/client behind calia7a3e029a7b) denies it", ""},
	{"client to server on the right port", [][]string{fromClient, toServer, {"filter/cali-pi-_0EoDlAMicMSWivwSe1B#4", "filter/cali-pi-_0EoDlAMicMSWivwSe1B#6",
		"filter/cali-tw-cali7715d358f22#6", "filter/FORWARD#2"}}, PolicyAllow, "filter/cali-pi-_0EoDlAMicMSWivwSe1B#6",
		"Calico NetworkPolicy default/server-ingress (ingress of pod default/server behind cali7715d358f22) allows it",
		"the Calico policy of chain cali-pi-_0EoDlAMicMSWivwSe1B (ingress of the pod behind cali7715d358f22) allows it"},
}

func TestWhatCalicoDidToRecordedPackets(t *testing.T) {
	for _, set := range calicoSets {
		s := loadRecorded(t, set.path)
		for _, c := range calicoOutcomes {
			t.Run(set.name+"/"+c.name, func(t *testing.T) {
				var names []string
				for _, way := range c.ways {
					names = append(names, way...)
				}
				cause := c.cause
				if set.name == "native" {
					if names = native(names); cause != "" {
						cause = native([]string{cause})[0]
					}
				}
				path := Path{Rules: s.path(t, names...)}
				m := NewBook(Known{Endpoints: pods, Chain: s.chain}).Explain(path)
				if m.Sentence != c.want || m.Kind != c.kind || m.Owner != Calico {
					t.Errorf("got  %s: %q\nwant %s: %q", m.Kind, m.Sentence, c.kind, c.want)
				}
				if got := ""; m.Cause != nil {
					if got = key(*m.Cause); got != cause {
						t.Errorf("cause %s, want %s", got, cause)
					}
				} else if cause != "" {
					t.Errorf("no cause, want %s", cause)
				}
				checkBare(t, set.name, path, c.want, c.bare)
			})
		}
	}
}

// checkBare explains a path when nothing is known but the path.
func checkBare(t *testing.T, set string, path Path, full, bare string) {
	t.Helper()
	unnamed := full
	for _, pod := range pods {
		unnamed = strings.ReplaceAll(unnamed, "pod "+pod+" ", "the pod ")
	}
	want := bare
	if bare == "" || set == "native" { // whole names
		want = unnamed
	}
	if got := NewBook(Known{}).Explain(path).Sentence; got != want {
		t.Errorf("with the path alone\ngot  %q\nwant %q", got, want)
	}
	known := NewBook(Known{Policies: []string{"GlobalNetworkPolicy other", "NetworkPolicy default/server-ingress"}})
	if got := known.Explain(path).Sentence; got != unnamed {
		t.Errorf("with the policies' names\ngot  %q\nwant %q", got, unnamed)
	}
}

// Each rule that dropped or rejected in the recorded traffic of kube-proxy.
func TestWhatKubeProxyDidToRecordedPackets(t *testing.T) {
	for _, set := range []string{"kube-proxy-legacy/after-traffic/iptables-legacy-save-c.txt.gz", "kube-proxy-nft/after-traffic/iptables-nft-save-c.txt.gz"} {
		s := loadRecorded(t, set)
		got := map[string]Kind{}
		for _, r := range s.rules {
			if s.packets[key(r)] == 0 || !strings.Contains(r.Text, "-j DROP") && !strings.Contains(r.Text, "-j REJECT") {
				continue
			}
			m := NewBook(Known{}).Explain(Path{Rules: []Rule{r}})
			got[m.Sentence] = m.Kind
		}
		want := map[string]Kind{
			"kube-proxy rejects it: service demo/empty has no endpoints":                                                                           NoEndpoints,
			"kube-proxy rejects it: service prod/nodeport-empty:http has no endpoints":                                                             NoEndpoints,
			"kube-proxy drops it: service demo/itp-local-remote-only has no endpoints on this node, and its traffic policy is Local":               NoLocalEndpoints,
			"kube-proxy drops it: service prod/nodeport-etp-local-remote-only:http has no endpoints on this node, and its traffic policy is Local": NoLocalEndpoints,
			"kube-proxy drops it: its source is not among the loadBalancerSourceRanges of service prod/lb:https":                                   SourceRange,
		}
		for sentence, kind := range want {
			if got[sentence] != kind {
				t.Errorf("%s: nothing told as %s: %q", set, kind, sentence)
			}
			delete(got, sentence)
		}
		for sentence, kind := range got {
			t.Errorf("%s: unexpected %s: %q", set, kind, sentence)
		}
	}
}

// tracedPaths reads the kernel's trace: the rules of each packet in order, by
// the heading that says who called whom. Rules of the tracer's own are left out.
func tracedPaths(t *testing.T, path string) map[string][]Rule {
	paths := map[string][]Rule{}
	heading, id := "", ""
	for _, line := range strings.Split(readRecorded(t, path), "\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "### "):
			heading, id = line[4:], ""
		case len(f) > 7 && f[6] == "rule" && f[4] != "kptrace" && (id == "" || id == f[2]):
			id = f[2] // the first packet of those under one heading
			text := strings.Join(f[7:], " ")
			text = text[:strings.LastIndex(text, " (verdict")]
			paths[heading] = append(paths[heading], Rule{Backend: "nft", Family: f[3], Table: f[4], Chain: f[5], Text: text})
		}
	}
	return paths
}

func TestWhatKubeProxyDidByTheKernelsTrace(t *testing.T) {
	paths := tracedPaths(t, "kube-proxy-nftables/after-traffic/nft-monitor-trace.txt.gz")
	empty := paths["kp-client -> http://10.96.10.4/"]
	for _, c := range []struct {
		name, element string
		rules         []Rule
		kind          Kind
		want          string
	}{
		{"no endpoints", "", empty, NoEndpoints, "kube-proxy rejects it: the service at its destination has no endpoints"},
		{"no endpoints, element known", `10.96.10.4 . tcp . 80 comment "demo/empty" : goto reject-chain`, empty, NoEndpoints,
			"kube-proxy rejects it: service demo/empty has no endpoints"},
		{"source range", "", paths["kp-lan -> http://192.0.2.100:443/"], SourceRange,
			"kube-proxy drops it: its source is not among the loadBalancerSourceRanges of service prod/lb:https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.rules) < 2 {
				t.Fatalf("the trace has no path: %v", c.rules)
			}
			rules := append([]Rule{}, c.rules...)
			rules[len(rules)-2].Element = c.element
			m := NewBook(Known{}).Explain(Path{Rules: rules})
			if m.Sentence != c.want || m.Kind != c.kind {
				t.Errorf("got  %s: %q\nwant %s: %q", m.Kind, m.Sentence, c.kind, c.want)
			}
		})
	}
}

// lossy tells nft's listing of iptables-nft's rules, which has lost comments.
func lossy(path string) bool {
	return strings.Contains(path, "-nft/") && strings.Contains(path, "nft-a-list")
}

// Without comments the ends of Calico's chains are still told, as often as with.
func TestCalicoWithoutComments(t *testing.T) {
	kinds := func(path string) map[Kind]int {
		s, n := loadRecorded(t, path), map[Kind]int{}
		for _, r := range s.rules {
			m := NewBook(Known{Chain: s.chain}).Explain(Path{Rules: []Rule{r}})
			if m.Kind == TierEnd && len(m.Policies) == 0 {
				t.Errorf("%s: %s: no policy named: %q", path, key(r), m.Sentence)
			}
			n[m.Kind]++
		}
		return n
	}
	with, without := kinds("calico-nft/node1/iptables-nft-save-c.txt.gz"), kinds("calico-nft/node1/nft-a-list-ruleset.txt.gz")
	for _, k := range []Kind{TierEnd, NoProfile, UnknownInterface, PolicyDeny, Invalid, ReversePath} {
		if with[k] == 0 || with[k] != without[k] {
			t.Errorf("%s: %d rules with comments, %d without", k, with[k], without[k])
		}
	}
}

// No rule of the recorded sets that drops or rejects is left without a reason,
// and each sentence names what the rule is about.
func TestEveryRecordedDropHasAReason(t *testing.T) {
	drops := 0
	for _, path := range recordedSets(t) {
		if lossy(path) {
			continue
		}
		s := loadRecorded(t, path)
		book := NewBook(Known{Chain: s.chain})
		for _, r := range s.rules {
			l := parseLine(r)
			if r.Family == "arp" || l.action != "drop" && l.action != "reject" {
				continue
			}
			drops++
			m := book.Explain(Path{Rules: []Rule{r}})
			if m.Kind == PlainRule && r.Chain != "reject-chain" || m.Owner == "" || m.What == "" && r.Chain != "reject-chain" {
				t.Errorf("%s: %s: %s %q", path, key(r), m.Kind, m.Sentence)
			}
			if strings.Contains(r.Text, "End of tier") && len(m.Policies) == 0 {
				t.Errorf("%s: %s: no policy named: %q", path, key(r), m.Sentence)
			}
		}
	}
	if t.Logf("%d rules", drops); drops < 80 {
		t.Errorf("only %d dropping rules looked at", drops)
	}
}
