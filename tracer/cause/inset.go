// SPDX-License-Identifier: Apache-2.0

package cause

// Rules that drop what is in a set: the element is at fault then, or not to be there, and
// never the rule, which guards against all the others.

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

var (
	nftSet   = regexp.MustCompile(`\bip6? (saddr|daddr) (!= )?@(\S+)`)
	ipsetSet = regexp.MustCompile(`(! )?--match-set (\S+) (src|dst)( |$)`)
)

// guards are programs that are known by the names of their sets: how one takes an address
// out. What is taken out of the set itself, they may put in again.
var guards = []struct{ name, out string }{
	{"crowdsec", "cscli decisions delete --ip %s"},
	{"f2b-", "fail2ban-client unban %s"},
	{"fail2ban", "fail2ban-client unban %s"},
}

// setOf is the set that a rule asks of one of the packet's addresses.
type setOf struct {
	name    string
	addr    netip.Addr
	without bool // the rule is for what is not in it
	nft     bool
}

// setAsked reads the set out of the rule that dropped the packet; ok is false if there is
// none, or more than one.
func (q *inquiry) setAsked() (s setOf, ok bool) {
	text := quoted.ReplaceAllString(q.d.Rule.Text, `""`)
	e := endsAt(q.p)
	if all := nftSet.FindAllStringSubmatch(text, -1); len(all) == 1 {
		s = setOf{all[0][3], e.Src, all[0][2] != "", true}
		if all[0][1] == "daddr" {
			s.addr = e.Dst
		}
		return s, true
	}
	if all := ipsetSet.FindAllStringSubmatch(text, -1); len(all) == 1 && strings.Count(text, "--match-set") == 1 {
		s = setOf{all[0][2], e.Src, all[0][1] != "", false}
		if all[0][3] == "dst" {
			s.addr = e.Dst
		}
		return s, true
	}
	return s, false
}

// tellSet says that an element is at fault, and how it is taken out, or put in.
func (q *inquiry) tellSet(c *claim) {
	s, ok := q.setAsked()
	if !ok {
		return
	}
	r := q.d.Rule
	in, family := enter(q.d.Place), r.Family
	name := shellWord(s.name)
	see, add, del := fmt.Sprintf("ipset test %s %s; ipset list %s", name, s.addr, name), fmt.Sprintf("ipset add %s %s", name, s.addr), fmt.Sprintf("ipset del %s %s", name, s.addr)
	if s.nft {
		where := fmt.Sprintf("%s %s %s", family, shellWord(r.Table), name)
		see, add, del = fmt.Sprintf("nft get element %s { %s }   # with its timeout, if it has one", where, s.addr), fmt.Sprintf("nft add element %s { %s }", where, s.addr), fmt.Sprintf("nft delete element %s { %s }", where, s.addr)
	}
	first := c.fix[0]
	if s.without {
		c.summary += fmt.Sprintf(": %s is not in the set %s, which it lets be", s.addr, s.name)
		c.fix = []string{first, "see the set: " + in + see, "if it is to pass: " + in + add + "; the rule itself keeps all others out", "find who fills the set, or it is gone again"}
		return
	}
	c.summary += fmt.Sprintf(": %s is in the set %s", s.addr, s.name)
	c.fix = []string{first, "see the element: " + in + see, "if it is there by mistake, take that one out (it may be a range that holds others too): " + in + del + "; leave the rule, which guards against the others"}
	for _, g := range guards {
		if strings.Contains(strings.ToLower(s.name+" "+r.Chain+" "+r.Table), g.name) {
			c.fix = append(c.fix, fmt.Sprintf("by the program that put it in, or it does so again: "+g.out+"; and have it leave the cluster's own networks alone (its allow list)", s.addr))
			return
		}
	}
	c.fix = append(c.fix, "find who put it in, or it comes back: an intrusion guard (CrowdSec, fail2ban), a list of bad addresses, an agent; have it leave the cluster's own networks alone")
}
