// SPDX-License-Identifier: Apache-2.0

package legacy_test

// These tests restore the rule sets of real Calico, flannel and kube-proxy
// nodes, and big made-up ones, and compare what is read back with what
// iptables-save prints.

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/ruleset/legacy"
	"golang.org/x/sys/unix"
)

func TestRealRuleSetsReadAsTheToolPrintsThem(t *testing.T) {
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, dir := range dirs {
		if !dir.IsDir() || fixture(t, dir.Name(), "ip.save") == "" {
			continue
		}
		t.Run(dir.Name(), func(t *testing.T) { total += compareFixture(t, dir.Name()) })
	}
	if total < 4000 {
		t.Errorf("only %d rules compared", total)
	}
	t.Logf("%d rules compared in all", total)
}

// compareFixture restores a rule set, compares all of its tables, and counts
// the rules.
func compareFixture(t *testing.T, name string) int {
	p := newPlace(t)
	if sets := fixture(t, name, "sets.save"); sets != "" {
		p.c.InStdin(p.name, sets, "ipset", "restore")
	}
	p.accounts(fixture(t, name, "ip.save"))
	for family := range tools {
		if rules := fixture(t, name, family+".save"); rules != "" {
			p.restore(family, rules)
		}
	}
	before := p.names()
	tables := p.readAll()
	if after := p.names(); after != before {
		t.Errorf("reading made tables: %q, was %q", after, before)
	}
	if len(tables) != len(strings.Fields(before)) {
		t.Errorf("%d tables, the kernel lists %q", len(tables), before)
	}
	rules, wrong := 0, 0
	for _, table := range tables {
		want := p.save(table.Family, table.Name)
		wrong += differences(t, table.Family+" "+table.Name, table.Save(), want)
		if n := strings.Count(want, "\n-A "); table.Rules() != n {
			t.Errorf("%s %s: %d rules, the tool has %d", table.Family, table.Name, table.Rules(), n)
		}
		rules += table.Rules()
		compareNumbers(t, table)
	}
	t.Logf("%d rules of %d tables compared, %d differences", rules, len(tables), wrong)
	return rules
}

// compareNumbers checks that number and text of every rule belong together: the
// n-th line of its chain.
func compareNumbers(t *testing.T, table *legacy.Table) {
	t.Helper()
	lines := map[string]int{}
	for i, e := range table.Entries {
		if e.Kind != legacy.KindRule {
			continue
		}
		r, err := table.Rule(i)
		if err != nil {
			t.Fatal(err)
		}
		lines[e.Chain]++
		if r.Number != lines[e.Chain] || !strings.HasPrefix(r.Text, "-A "+r.Chain) || table.Ordinal(r.Chain, r.Number) != i {
			t.Errorf("entry %d: %+v, want rule %d of %s", i, r, lines[e.Chain], e.Chain)
		}
		if strings.Count(r.Text, "-m comment ") != len(r.Comments) {
			t.Errorf("%s: comments %q", r.Text, r.Comments)
		}
	}
}

func TestPolicyAndComments(t *testing.T) {
	_, table := filter(t, `*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:mine -
-A FORWARD -m comment --comment "cali:abc" -m comment --comment "End of tier, drop" -g mine
COMMIT
`)
	policy, err := table.Rule(table.Ordinal("FORWARD", 0))
	if err != nil || policy.Text != ":FORWARD DROP" || policy.Number != 0 {
		t.Errorf("policy %+v, %v", policy, err)
	}
	rule, err := table.Rule(table.Ordinal("FORWARD", 1))
	if err != nil || rule.Comment() != "cali:abc; End of tier, drop" {
		t.Errorf("rule %+v, %v", rule, err)
	}
	if _, err := table.Rule(len(table.Entries)); err == nil {
		t.Error("an entry beyond the last one has a rule")
	}
}

func TestATableThatIsNotThereIsNotMade(t *testing.T) {
	p := newPlace(t)
	before := p.names()
	for _, family := range []string{legacy.IPv4, legacy.IPv6} {
		for _, name := range []string{"filter", "nat", "raw", "nonsense", ""} {
			p.do(func() error {
				if _, err := legacy.Read(family, name); !errors.Is(err, legacy.ErrNoTable) {
					t.Errorf("%s %q: %v, want ErrNoTable", family, name, err)
				}
				return nil
			})
		}
	}
	if tables := p.readAll(); len(tables) != 0 {
		t.Errorf("tables %v, want none", tables)
	}
	if after := p.names(); before != "" || after != "" {
		t.Errorf("tables %q after reading, %q before: want none", after, before)
	}
	if _, err := legacy.Names("arp"); err == nil {
		t.Error("family arp has tables")
	}
}

// bigTable is a filter table of n rules in chains of 100.
func bigTable(n int) string {
	var heads, rules strings.Builder
	for i := range n {
		chain := fmt.Sprintf("chain-%d", i/100)
		if i%100 == 0 {
			fmt.Fprintf(&heads, ":%s -\n", chain)
			fmt.Fprintf(&rules, "-A FORWARD -d 10.%d.0.0/16 -j %s\n", i/100, chain)
			continue
		}
		fmt.Fprintf(&rules, "-A %s -s 10.%d.%d.0/24 -p tcp -m comment --comment \"rule %d\" -m tcp --dport %d -j DROP\n",
			chain, i/100, i%100, i, 1000+i%1000)
	}
	return "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n" + heads.String() + rules.String() + "COMMIT\n"
}

func TestBigTables(t *testing.T) {
	for _, n := range []int{5000, 10000} {
		p := newPlace(t)
		p.restore(legacy.IPv4, bigTable(n))
		var table *legacy.Table
		var cpu time.Duration
		p.do(func() (err error) {
			start := threadTime(t)
			table, err = legacy.Read(legacy.IPv4, "filter")
			cpu = threadTime(t) - start
			return err
		})
		if table.Rules() != n {
			t.Errorf("%d rules, want %d", table.Rules(), n)
		}
		if cpu > 500*time.Millisecond {
			t.Errorf("%d rules took %v to read", n, cpu)
		}
		wrong := differences(t, fmt.Sprint(n, " rules"), table.Save(), p.save(legacy.IPv4, "filter"))
		t.Logf("%d rules: read in %v of CPU, %d bytes, %d differences", n, cpu, table.Size, wrong)
	}
}

// threadTime is the CPU time of the calling thread: what others do on this
// machine does not count.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestReplacedWhileRead replaces a table by one of another size, and by one of
// the same size with other hook entries, for two seconds. What is read must be
// one of the three.
func TestReplacedWhileRead(t *testing.T) {
	head := "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n"
	same := strings.Repeat("-A FORWARD -s 10.0.0.1/32 -j DROP\n", 50)
	versions := []string{
		head + same + "COMMIT\n",
		head + strings.ReplaceAll(same, "FORWARD", "INPUT") + "COMMIT\n",
		head + same + same + "COMMIT\n",
	}
	p := newPlace(t)
	p.restore(legacy.IPv4, versions[0])
	stop, done := make(chan struct{}), make(chan error, 1)
	replaced := 0
	go func() { done <- replaceLoop(t, p, versions, stop, &replaced) }()
	reads, gaveUp := 0, 0
	p.do(func() error {
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			table, err := legacy.Read(legacy.IPv4, "filter")
			switch {
			case errors.Is(err, legacy.ErrChanging):
				gaveUp++
				continue
			case err != nil:
				return err
			}
			reads++
			if got := table.Save(); got != versions[0] && got != versions[1] && got != versions[2] {
				return fmt.Errorf("read a table that never was:\n%s", got)
			}
		}
		return nil
	})
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if reads == 0 || replaced < 10 {
		t.Errorf("%d reads, %d replacements: the test did not test", reads, replaced)
	}
	t.Logf("%d reads during %d replacements, %d gave up", reads, replaced, gaveUp)
}

// replaceLoop replaces the table until stop.
func replaceLoop(t *testing.T, p *place, versions []string, stop <-chan struct{}, count *int) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		cmd := command(t, "ip", "netns", "exec", p.c.Name(p.name), "iptables-legacy-restore")
		cmd.Stdin = strings.NewReader(versions[i%len(versions)])
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("restore: %w: %s", err, out)
		}
		*count++
	}
}

// A table that was read before is given back itself as long as its rules are the
// same, and still says what the tool says: swapped sets leave their names.
func TestReadAgain(t *testing.T) {
	p := newPlace(t)
	p.c.InStdin(p.name, "create a hash:ip\ncreate b hash:ip\nadd b 10.0.0.2\n", "ipset", "restore")
	head := "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n-A OUTPUT -m set --match-set a dst -j DROP\n"
	p.restore(legacy.IPv4, head+"COMMIT\n")
	again := func(old *legacy.Table) (now *legacy.Table) {
		p.do(func() (err error) { now, err = legacy.ReadAgain(legacy.IPv4, "filter", old); return err })
		return now
	}
	first := again(nil)
	p.c.In(p.name, "ip link set lo up")
	p.c.In(p.name, "ping -c 1 -W 1 127.0.0.1") // counts
	p.c.In(p.name, "ipset swap a b")
	second := again(first)
	if second != first {
		t.Error("the same rules were read as others")
	}
	if says := p.save(legacy.IPv4, "filter"); !strings.Contains(says, "--match-set a dst") || !strings.Contains(second.Save(), "--match-set a dst") {
		t.Errorf("the tool says %s, we say %s", says, second.Save())
	}
	p.restore(legacy.IPv4, head+"-A OUTPUT -m set --match-set b dst -j ACCEPT\nCOMMIT\n")
	third := again(second)
	if third == second || !strings.Contains(third.Save(), "--match-set b dst") {
		t.Errorf("changed rules were not read: %s", third.Save())
	}
}
