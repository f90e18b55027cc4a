// SPDX-License-Identifier: Apache-2.0

// The hashes are compared with the names that the real programs gave.

package meaning

import (
	"slices"
	"strings"
	"testing"
)

// chainNames are the chains' names without doubles, those that pass the filter.
func chainNames(s *ruleSet, keep func(string) bool) []string {
	var names []string
	for _, c := range s.chains {
		if keep(c.Chain) && !slices.Contains(names, c.Chain) {
			names = append(names, c.Chain)
		}
	}
	slices.Sort(names)
	return names
}

// Native nftables mode keeps whole names; hashing those must give exactly the
// names that the same Felix gave in iptables mode.
func TestCalicoChainGivesTheNamesOfIptablesMode(t *testing.T) {
	for _, node := range []string{"node1", "node2"} {
		native := loadRecorded(t, "calico-nftables/"+node+"/nft-a-list-ruleset.txt.gz")
		legacy := loadRecorded(t, "calico-legacy/"+node+"/iptables-legacy-save-c.txt.gz")
		hashed := 0
		for _, want := range []string{"cali-pi-", "cali-po-", "cali-pri-", "cali-pro-", "cali-tw-", "cali-fw-"} {
			var got []string
			for _, name := range chainNames(native, func(n string) bool { return strings.HasPrefix(n, "filter-"+want) }) {
				name = CalicoChain(want, strings.TrimPrefix(name, "filter-"+want))
				if strings.HasPrefix(name, want+caliShortened) {
					hashed++
				}
				got = append(got, name)
			}
			slices.Sort(got)
			if names := chainNames(legacy, func(n string) bool { return strings.HasPrefix(n, want) }); !slices.Equal(got, names) || len(got) == 0 && node == "node1" {
				t.Errorf("%s: %s chains: got %v, the node has %v", node, want, got, names)
			}
		}
		if node == "node1" && hashed == 0 {
			t.Error("no name was long enough to be hashed: nothing is tested")
		}
	}
}

// Names seen on nodes with older versions of Calico.
func TestCalicoChainOfOlderVersions(t *testing.T) {
	for _, c := range []struct{ prefix, id, want string }{
		{"cali-pi-", "default/knp.default.haejun-policy", "cali-pi-_Eb-vckmN-lr2eREXQcs"},
		{"cali-th-", "any-interface-at-all", "cali-th-any-interface-at-all"},
	} {
		if got := CalicoChain(c.prefix, c.id); got != c.want {
			t.Errorf("%s%s: got %s, want %s", c.prefix, c.id, got, c.want)
		}
	}
}

// Every service's and endpoint's chain of every recorded rule set is found from
// the API's objects, and means what the rules' own comments say.
func TestKubeHashesGiveTheRecordedChains(t *testing.T) {
	for _, c := range []struct{ api, set string }{
		{"kube-proxy-nft", "kube-proxy-nft/iptables-nft-save-c.txt.gz"},
		{"kube-proxy-nft", "kube-proxy-nft/ip6tables-nft-save-c.txt.gz"},
		{"kube-proxy-nft", "kube-proxy-legacy/iptables-legacy-save-c.txt.gz"},
		{"kube-proxy-nft-300", "kube-proxy-nft-300/iptables-nft-save-c.txt.gz"},
	} {
		set := loadRecorded(t, c.set)
		byHash := (&Book{known: Known{Services: recordedServices(t, c.api)}}).serviceHashes()
		found := 0
		for _, name := range chainNames(set, isKubeServiceChain) {
			parts := strings.SplitN(name, "-", 3)
			got, ok := byHash[parts[2]]
			if !ok {
				t.Errorf("%s: %s is not among the hashes", c.set, name)
				continue
			}
			for _, r := range set.chain(Rule{Backend: set.rules[0].Backend, Family: set.rules[0].Family, Table: "nat", Chain: name}) {
				for _, comment := range parseLine(r).comments {
					if said := serviceIn(comment); said != got.name {
						t.Errorf("%s: %s is %s by its hash, %q says %q", c.set, name, got.name, comment, said)
					}
				}
				if to := "--to-destination "; strings.Contains(r.Text, to) && !strings.HasSuffix(r.Text, to+got.endpoint) {
					t.Errorf("%s: %s is %s by its hash: %s", c.set, name, got.endpoint, r.Text)
				}
			}
			found++
		}
		if t.Logf("%s: %d chains", c.set, found); found < 3 {
			t.Errorf("%s: only %d chains", c.set, found)
		}
	}
}

func TestKubeNFTServiceChainGivesTheRecordedChains(t *testing.T) {
	for _, c := range []struct{ api, set string }{
		{"kube-proxy-nft", "kube-proxy-nftables/nft-a-list-ruleset.txt.gz"},
		{"kube-proxy-nft-300", "kube-proxy-nftables-300/nft-a-list-ruleset.txt.gz"},
	} {
		tails := map[string]string{}
		for _, s := range recordedServices(t, c.api) {
			tails[KubeNFTServiceChain(s)] = s.String()
		}
		names := chainNames(loadRecorded(t, c.set), func(n string) bool { return strings.Contains(n, "/") })
		for _, name := range names {
			prefix, tail, _ := strings.Cut(name, "-")
			if prefix == "endpoint" {
				if serviceOfNFTChain(name) != "demo/sticky" {
					t.Errorf("%s: %s is told as %q", c.set, name, serviceOfNFTChain(name))
				}
				continue
			}
			if want, ok := tails[tail]; !ok || serviceOfNFTChain(name) != want {
				t.Errorf("%s: %s: computed %v, told as %q", c.set, name, ok, serviceOfNFTChain(name))
			}
		}
		if len(names) < 20 {
			t.Errorf("%s: only %d service chains", c.set, len(names))
		}
	}
}
