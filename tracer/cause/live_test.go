// SPDX-License-Identifier: Apache-2.0

package cause

// The running node as Live reads it, compared with what the node's own tools
// print.

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/bpf"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/recall"
	"github.com/pathtrace/pathtrace/tracer/rulebook"
	"github.com/pathtrace/pathtrace/tracer/ruleset/meaning"
)

func TestLive(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n",
		"ip link add eth9 type bridge",
		"ip addr add 192.0.2.1/24 dev eth9",
		"ip link set eth9 up",
		"ip link add gone0 type bridge",
		"ip route add blackhole 198.51.100.0/24",
		"sysctl -qw net.ipv4.ip_forward=0",
		"sysctl -qw net.ipv4.conf.eth9.rp_filter=1",
		"iptables-legacy -w -A FORWARD -s 192.0.2.7/32 -m comment --comment left-over -j DROP",
		"iptables-nft -w -A FORWARD -d 192.0.2.8/32 -p tcp -m tcp --dport 80 -j REJECT",
		"nft add table inet site",
		"nft add chain inet site guard { type filter hook input priority 0 ; policy accept ; }",
		"nft add rule inet site guard tcp dport 23 drop",
	)
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	live := NewLive(ns, standing{t.Context(), ns})
	q := &inquiry{state: live, p: &model.Packet{}, d: &model.Drop{}}
	self := live.Node()

	if l := q.linkNamed(self, "gone0"); l == nil || l.Up {
		t.Errorf("gone0 is %+v, ip link says: %s", l, c.In("n", "ip link show gone0"))
	}
	if r, ok := q.routeTo(self, netip.MustParseAddr("198.51.100.9")); !ok || !strings.Contains(c.In("n", "ip route"), q.routeWords(self, r)) {
		t.Errorf("the route to 198.51.100.9 is told as %q, ip route prints:\n%s", q.routeWords(self, r), c.In("n", "ip route"))
	}
	if r, ok := q.routeTo(self, netip.MustParseAddr("192.0.2.9")); !ok || !strings.Contains(c.In("n", "ip route"), q.routeWords(self, r)) {
		t.Errorf("the route to 192.0.2.9 is told as %q, ip route prints:\n%s", q.routeWords(self, r), c.In("n", "ip route"))
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv4/conf/eth9/rp_filter", "ipv4/conf/gone0/forwarding", "netfilter/nf_conntrack_max"} {
		got, err := live.Sysctl(self, name)
		want := strings.TrimSpace(c.In("n", "sysctl -n net."+strings.ReplaceAll(name, "/", ".")))
		if err != nil || got != want {
			t.Errorf("%s is %q (%v), sysctl says %q", name, got, err, want)
		}
	}
	if _, ok := q.sysctl(self, "ipv4/no_such_thing"); ok || len(q.gaps) > 0 {
		t.Errorf("a sysctl that does not exist is told as one, or as trouble: %v", q.gaps)
	}
	sets, err := live.Rules(self)
	if err != nil {
		t.Fatal(err)
	}
	sameRules(t, "legacy", slices.Collect(sets.Legacy.All()), c.In("n", "iptables-legacy-save"))
	sameRules(t, "nft", slices.Collect(sets.NFT.All()), c.In("n", "iptables-nft-save"))
	if all := slices.Collect(sets.NFT.All()); !contains(all, "tcp dport 23 drop") {
		t.Errorf("the native table's rule is not among nft's: %+v", all)
	}
}

// standing gives the rules of a node as they stand when they are asked for.
type standing struct {
	ctx context.Context
	ns  *node.Namespaces
}

func (s standing) All(netns uint32) (legacy, nft iter.Seq[meaning.Rule], err error) {
	book := rulebook.New(rulebook.Config{Survey: rulebook.Read(s.ctx, s.ns, func(string) {}), Kernel: blind{}})
	return book.All(netns)
}

// blind is a kernel half that sees nothing.
type blind struct{}

func (blind) Look(string, string, uint64) (bpf.Looked, error) { return bpf.Looked{}, nil }
func (blind) CountsNewTables() bool                           { return false }
func (blind) CountsReplacements() bool                        { return false }

// sameRules wants every rule that the tool prints among those read.
func sameRules(t *testing.T, backend string, got []meaning.Rule, saved string) {
	t.Helper()
	rules := 0
	for line := range strings.Lines(saved) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "-A ") {
			rules++
			if !contains(got, line) {
				t.Errorf("%s: %q is not among the rules read: %+v", backend, line, got)
			}
		}
	}
	if rules == 0 {
		t.Errorf("%s: the tool printed no rule:\n%s", backend, saved)
	}
}

func contains(rules []meaning.Rule, text string) bool {
	for _, r := range rules {
		if strings.HasPrefix(r.Text, text) {
			return true
		}
	}
	return false
}

// A namespace that is gone is an error, not an empty node.
func TestLiveGone(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	live := NewLive(ns, standing{t.Context(), ns})
	const nowhere = 1
	if links, err := live.Links(nowhere); err == nil {
		t.Errorf("links of a namespace that does not exist: %v", links)
	}
	if _, err := live.Rules(nowhere); err == nil {
		t.Error("rules of a namespace that does not exist")
	}
}

// What was read of links and routes is not good for longer than they stay as they are.
func TestLiveLinkDown(t *testing.T) {
	c := nodetest.New(t)
	c.Add("n")
	c.In("n", "ip link add eth9 type bridge", "ip addr add 192.0.2.1/24 dev eth9", "ip link set eth9 up")
	ns, err := node.OpenNamespaces(c.Path("n"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	live := NewLive(ns, standing{t.Context(), ns})
	// reading took long, as on a busy machine, so that it is good for long
	live.kept = recall.New[question](recall.Config{Most: keptAnswers, Until: func(_, given time.Time) time.Time { return given.Add(time.Hour) }})
	q := &inquiry{state: live, p: &model.Packet{}, d: &model.Drop{}}
	self := live.Node()
	up := func() (bool, bool) {
		_, routed := q.routeTo(self, netip.MustParseAddr("192.0.2.9"))
		return q.linkNamed(self, "eth9").Up, routed
	}
	if linked, routed := up(); !linked || !routed {
		t.Fatalf("up %v, a route %v", linked, routed)
	}
	c.In("n", "ip link set eth9 down")
	if linked, _ := up(); !linked {
		t.Error("nothing was kept: this test shows nothing")
	}
	New(live, nil).Node(&model.NodeEvent{What: model.LinkDown, Netns: self})
	if linked, routed := up(); linked || routed {
		t.Errorf("set down: up %v, a route %v", linked, routed)
	}
}
