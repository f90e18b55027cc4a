// SPDX-License-Identifier: Apache-2.0

// Every chain and rule of the recorded rule sets has the owner that wrote it.

package meaning

import (
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// recordedSets are the paths of all recorded rule sets.
func recordedSets(t *testing.T) []string {
	var paths []string
	err := fs.WalkDir(os.DirFS("testdata"), ".", func(path string, d fs.DirEntry, err error) error {
		if strings.Contains(path, "save-c.txt") || strings.Contains(path, "nft-a-list") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 25 {
		t.Fatalf("only %d recorded rule sets found", len(paths))
	}
	return paths
}

// writers are who may have written a rule set, by its folder.
func writers(path string) []Owner {
	switch {
	case strings.HasPrefix(path, "calico"):
		return []Owner{Calico}
	case strings.HasPrefix(path, "flannel"):
		return []Owner{Flannel, Portmap}
	}
	return []Owner{KubeProxy}
}

func builtin(r Rule) bool {
	native := r.Table == "calico" || r.Table == "calico-arp" || r.Table == "kube-proxy" || strings.HasPrefix(r.Table, "flannel-")
	return !native && strings.ToUpper(r.Chain) == r.Chain && !strings.Contains(r.Chain, "-")
}

func TestEveryRecordedChainHasItsOwner(t *testing.T) {
	chains := 0
	for _, path := range recordedSets(t) {
		for _, c := range loadRecorded(t, path).chains {
			owner := OwnerOfChain(c.Backend, c.Table, c.Chain)
			switch {
			case builtin(c):
				if owner != "" {
					t.Errorf("%s: built-in chain %s/%s is said to be %s's", path, c.Table, c.Chain, owner)
				}
			case !oneOf(owner, writers(path)):
				t.Errorf("%s: chain %s/%s: owner %q", path, c.Table, c.Chain, owner)
			default:
				chains++
			}
		}
	}
	if t.Logf("%d chains", chains); chains < 2500 {
		t.Errorf("only %d chains had an owner: are the recordings read?", chains)
	}
}

// nft's own listing of iptables-nft's rules loses the comments, so a rule in a
// built-in chain may stay without owner there; everywhere else none may.
func TestEveryRecordedRuleHasItsOwner(t *testing.T) {
	rules := 0
	for _, path := range recordedSets(t) {
		for _, r := range loadRecorded(t, path).rules {
			owner := OwnerOf(r)
			if !oneOf(owner, writers(path)) && !(lossy(path) && owner == "" && builtin(r)) {
				t.Errorf("%s: %s: owner %q of %s", path, key(r), owner, r.Text)
			}
			rules++
		}
	}
	if t.Logf("%d rules", rules); rules < 6000 {
		t.Errorf("only %d rules looked at", rules)
	}
}

func oneOf(o Owner, list []Owner) bool {
	for _, have := range list {
		if have == o {
			return true
		}
	}
	return false
}

func TestCountOwners(t *testing.T) {
	s := loadRecorded(t, "flannel-legacy/node1/iptables-legacy-save-c.txt.gz")
	mine := Rule{Backend: "legacy", Family: "ip", Table: "filter", Chain: "FORWARD", Number: 1, Text: "-A FORWARD -s 10.0.0.1/32 -j DROP"}
	got := CountOwners(slices.Values(append(append(s.rules, mine), s.chains...)))
	want := []OwnerCount{{Flannel, 10}, {Portmap, 9}, {"", 1}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOwnerOf(t *testing.T) {
	legacy := func(chain, text string) Rule {
		return Rule{Backend: "legacy", Family: "ip", Table: "filter", Chain: chain, Text: "-A " + chain + " " + text}
	}
	for _, c := range []struct {
		rule Rule
		want Owner
	}{
		{legacy("FORWARD", `-s 10.0.0.0/8 -j DROP`), ""},
		{legacy("FORWARD", `-s 10.0.0.0/8 -m comment --comment "kubernetes is down" -j DROP`), ""},
		{legacy("FORWARD", `-m comment --comment "cali: keep out" -j DROP`), ""},
		{legacy("FORWARD", `-m comment --comment "cali:mp77cMpurHhyjLrM" -j MARK --set-xmark 0x10000/0x10000`), Calico},
		{legacy("FORWARD", `-j DOCKER-USER`), Docker},
		{legacy("DOCKER-USER", `-j RETURN`), Docker},
		{legacy("DOCKER-USER", `-s 10.0.0.0/8 -j DROP`), ""},
		{legacy("DOCKER-USER", `-s 10.0.0.0/8 -j RETURN`), ""},
		{legacy("KUBE-ROUTER-FORWARD", `-j ACCEPT`), KubeRouter},
		{legacy("KUBE-POD-FW-ABCDEFGHIJKLMNOP", `-j ACCEPT`), KubeRouter},
		{legacy("FORWARD_direct", `-j DROP`), Firewalld},
		{legacy("CILIUM_FORWARD", `-j ACCEPT`), Cilium},
		{legacy("CNI-FORWARD", `-d 10.1.1.1/32 -j ACCEPT`), CNIPlugins},
		{legacy("CNI-ADMIN", `-d 10.1.1.1/32 -j DROP`), ""},
		{legacy("POSTROUTING", `-s 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN`), Flannel},
		{legacy("DOCKERISH", `-j DROP`), ""},
		{Rule{Backend: "nft", Family: "inet", Table: "firewalld", Chain: "filter_FORWARD", Text: "ct state invalid drop"}, Firewalld},
		{Rule{Backend: "nft", Family: "inet", Table: "filter", Chain: "forward", Text: `ip saddr 10.0.0.1 drop comment "calico"`}, ""},
	} {
		if got := OwnerOf(c.rule); got != c.want {
			t.Errorf("%s: owner %q, want %q", c.rule.Text, got, c.want)
		}
	}
}
