// SPDX-License-Identifier: Apache-2.0

package legacy_test

// What the tests share: namespaces with rule sets restored by the real tools,
// and the real tools' view of them.

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
	"github.com/pathtrace/pathtrace/tracer/node/nodetest"
	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tools are the names of iptables for a family.
var tools = map[string]string{legacy.IPv4: "iptables-legacy", legacy.IPv6: "ip6tables-legacy"}

// place is a network namespace with rules.
type place struct {
	t    testing.TB
	c    *nodetest.Cluster
	name string
	ns   *node.Namespaces
}

// newPlace makes a namespace in a cluster of its own.
func newPlace(t testing.TB) *place {
	t.Helper()
	c := nodetest.New(t)
	c.Add("l")
	return placeIn(t, c, "l")
}

// placeIn is a namespace of a cluster.
func placeIn(t testing.TB, c *nodetest.Cluster, name string) *place {
	t.Helper()
	ns, err := node.OpenNamespaces(c.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return &place{t, c, name, ns}
}

// do runs fn inside the namespace.
func (p *place) do(fn func() error) {
	p.t.Helper()
	if err := p.ns.Do(p.c.Inode(p.name), fn); err != nil {
		p.t.Fatal(err)
	}
}

// restore loads rules.
func (p *place) restore(family, rules string) {
	p.t.Helper()
	p.c.InStdin(p.name, rules, tools[family]+"-restore")
}

// accounts makes the nfacct objects that rules name (as kube-proxy does), which
// must be there before (linux/netfilter/nfnetlink_acct.h).
func (p *place) accounts(rules string) {
	p.t.Helper()
	const newAccount, nameAttr = 0, 1 // NFNL_MSG_ACCT_NEW, NFACCT_NAME
	made := map[string]bool{}
	for _, found := range regexp.MustCompile(`--nfacct-name +(\S+)`).FindAllStringSubmatch(rules, -1) {
		if name := found[1]; !made[name] {
			made[name] = true
			p.do(func() error {
				req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_ACCT<<8|newAccount, unix.NLM_F_CREATE|unix.NLM_F_ACK)
				req.AddData(&nl.Nfgenmsg{Version: nl.NFNETLINK_V0})
				req.AddData(nl.NewRtAttr(nameAttr, nl.ZeroTerminated(name)))
				_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
				return err
			})
		}
	}
}

// read reads a table.
func (p *place) read(family, name string) (table *legacy.Table) {
	p.t.Helper()
	p.do(func() (err error) { table, err = legacy.Read(family, name); return err })
	return table
}

// readAll reads all tables.
func (p *place) readAll() (tables []*legacy.Table) {
	p.t.Helper()
	p.do(func() (err error) { tables, err = legacy.ReadAll(); return err })
	return tables
}

// names lists the tables there are.
func (p *place) names() string {
	p.t.Helper()
	return p.c.In(p.name, "cat /proc/self/net/ip_tables_names /proc/self/net/ip6_tables_names")
}

// save is what the tool prints for a table, without counters and comments.
func (p *place) save(family, table string) string {
	p.t.Helper()
	return bare(p.c.In(p.name, tools[family]+"-save -t "+table))
}

// filter makes a namespace with a filter table.
func filter(t testing.TB, rules string) (*place, *legacy.Table) {
	t.Helper()
	p := newPlace(t)
	p.restore(legacy.IPv4, rules)
	return p, p.read(legacy.IPv4, "filter")
}

// bare strips what a table's text does not have.
func bare(save string) string {
	save = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(save, "")
	return regexp.MustCompile(`(?m)^(:.*) \[\d+:\d+\]$`).ReplaceAllString(save, "$1")
}

// differences compares two texts line by line.
func differences(t testing.TB, what, got, want string) int {
	t.Helper()
	const most = 10
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	n := 0
	for i := range max(len(g), len(w)) {
		x, y := at(g, i), at(w, i)
		if x == y {
			continue
		}
		if n++; n <= most {
			t.Errorf("%s line %d:\n got  %s\n want %s", what, i+1, x, y)
		}
	}
	return n
}

func at(lines []string, i int) string {
	if i >= len(lines) {
		return "(nothing)"
	}
	return lines[i]
}

// fixture is a file of testdata; "" if it is not there.
func fixture(t testing.TB, path ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// command runs a command for as long as it may take at most.
func command(t testing.TB, words ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, words[0], words[1:]...)
}
