// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file loads rules of every match and target with the real tool, and lists
// those that this kernel would not take.

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink/nl"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// leastCompared is how many rules have to be compared, both families together.
const leastCompared = 600

// corpus are its rules for one family, by table in the file's order.
func corpus(t *testing.T, family string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("testdata/corpus")
	if err != nil {
		t.Fatal(err)
	}
	digit := map[string]string{nft.FamilyIP: "4", nft.FamilyIP6: "6"}[family]
	rules := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(words) != 3 {
			t.Fatalf("corpus: %q is not families, table, rule", line)
		}
		if strings.Contains(words[0], digit) {
			rules[words[1]] = append(rules[words[1]], words[2])
		}
	}
	return rules
}

func TestCorpus(t *testing.T) {
	compared := 0
	for _, family := range []string{nft.FamilyIP, nft.FamilyIP6} {
		t.Run(family, func(t *testing.T) {
			n := newNode(t)
			n.makeSets()
			n.account("http")
			n.account("a b")
			rules := corpus(t, family)
			var refused []string
			for _, table := range sortedKeys(rules) {
				if err := n.restore(family, table, ":T - [0:0]", ":U - [0:0]", ":V - [0:0]"); err != nil {
					t.Fatal(err)
				}
				refused = append(refused, n.append(family, table, rules[table])...)
			}
			slices.Sort(refused)
			t.Logf("%d rules refused:\n  %s", len(refused), strings.Join(refused, "\n  "))
			got := n.same(family)
			t.Logf("%d rules compared", got)
			compared += got
		})
	}
	if compared < leastCompared && !t.Skipped() {
		t.Errorf("%d rules compared, there should be %d or more", compared, leastCompared)
	}
}

// restore loads lines into a table without emptying it.
func (n node) restore(family, table string, lines ...string) error {
	n.t.Helper()
	text := fmt.Sprintf("*%s\n%s\nCOMMIT\n", table, strings.Join(lines, "\n"))
	_, err := n.try(text, tools[family]+"-restore", "--noflush")
	return err
}

// append loads rules, all at once if it can be, and tells which the kernel
// refused. A refusal that the kernel has no reason for fails the test.
func (n node) append(family, table string, rules []string) (refused []string) {
	n.t.Helper()
	err := n.restore(family, table, rules...)
	switch {
	case err == nil:
		return nil
	case len(rules) > 1:
		half := len(rules) / 2
		return append(n.append(family, table, rules[:half]), n.append(family, table, rules[half:])...)
	}
	if !n.mayRefuse(family, rules[0]) {
		n.t.Errorf("%s %s: %s: %v", family, table, rules[0], err)
	}
	return []string{fmt.Sprintf("%s %s: %v", table, rules[0], err)}
}

// mayRefuse tells whether a rule uses an extension that the kernel does not
// have, or one of those that need more than itself.
func (n node) mayRefuse(family, rule string) bool {
	for _, part := range []string{
		"--path",                   // a control group that is not there
		"--timeout long",           // a timeout policy that is not there
		"-j CT --helper",           // module of a helper
		"-m rateest", "-j RATEEST", // the estimator that another rule makes
		"! -s 0.0.0.0/0", "! -s ::/0", // iptables asks for 0 bytes of the header
	} {
		if strings.Contains(rule, part) {
			return true
		}
	}
	prefix := map[string]string{nft.FamilyIP: "ip", nft.FamilyIP6: "ip6"}[family]
	for _, kind := range []struct{ option, file string }{{"-m", "matches"}, {"-j", "targets"}} {
		known := strings.Fields(n.run("", "cat", "/proc/self/net/"+prefix+"_tables_"+kind.file))
		for _, found := range regexp.MustCompile(kind.option+` (\S+)`).FindAllStringSubmatch(rule, -1) {
			if name := found[1]; !slices.Contains(known, name) && !slices.Contains([]string{"T", "U", "V", "ACCEPT", "DROP", "RETURN"}, name) {
				return true
			}
		}
	}
	return false
}

// makeSets makes the ipsets that the corpus names.
func (n node) makeSets() {
	n.t.Helper()
	var lines []string
	for digit, family := range map[string]string{"4": "inet", "6": "inet6"} {
		lines = append(lines,
			"create addrs"+digit+" hash:ip family "+family+" counters timeout 0",
			"create pairs"+digit+" hash:ip,port family "+family,
			"create marked"+digit+" hash:net family "+family+" skbinfo")
	}
	n.run(strings.Join(lines, "\n")+"\n", "ipset", "restore")
}

// accounts makes the accounting objects that rules name (as those of kube-proxy
// do), which must be there before.
func (n node) accounts(rules string) {
	n.t.Helper()
	for _, found := range regexp.MustCompile(`--nfacct-name +(\S+)`).FindAllStringSubmatch(rules, -1) {
		n.account(found[1])
	}
}

// account makes one (linux/netfilter/nfnetlink_acct.h); making it twice does no harm.
func (n node) account(name string) {
	n.t.Helper()
	const newAccount, nameAttr = 0, 1 // NFNL_MSG_ACCT_NEW, NFACCT_NAME
	n.inside(func() error {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_ACCT<<8|newAccount, unix.NLM_F_CREATE|unix.NLM_F_ACK)
		req.AddData(&nl.Nfgenmsg{Version: nl.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(nameAttr, nl.ZeroTerminated(name)))
		_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		if errors.Is(err, unix.EBUSY) { // it is there, and used
			return nil
		}
		return err
	})
}
