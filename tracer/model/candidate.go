// SPDX-License-Identifier: Apache-2.0

// candidate.go names what may have dropped a packet where it cannot be told which
// did: typed for whoever compares, one line for whoever reads, in JSON too.

package model

import (
	"fmt"
	"strings"
)

// Candidate is one thing that hangs at a netfilter hook and may have dropped a
// packet. Of one that was read from JSON only that is known which its line tells.
type Candidate struct {
	Backend  string // legacy, nft; "" for conntrack, NAT core and the like
	Family   string
	Table    string
	Chain    string
	Function string
}

// String names it for people.
func (c Candidate) String() string {
	switch {
	case c.Chain != "":
		return fmt.Sprintf("%s %s table %s chain %s", c.Backend, c.Family, c.Table, c.Chain)
	case c.Table != "":
		return fmt.Sprintf("%s table %s", c.Backend, c.Table)
	}
	return c.Function
}

// ParseCandidate reads what String wrote.
func ParseCandidate(line string) Candidate {
	var c Candidate
	head, name, found := strings.Cut(line, " table ")
	if found {
		c.Table, c.Chain, _ = strings.Cut(name, " chain ")
		c.Backend, c.Family, _ = strings.Cut(head, " ")
	}
	if c.String() != line {
		return Candidate{Function: line}
	}
	return c
}

// MarshalText writes it as one line.
func (c Candidate) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads that line.
func (c *Candidate) UnmarshalText(line []byte) error {
	*c = ParseCandidate(string(line))
	return nil
}

// Candidates are all that may have dropped it.
type Candidates []Candidate

// Strings names each.
func (c Candidates) Strings() []string {
	lines := make([]string, len(c))
	for i := range c {
		lines[i] = c[i].String()
	}
	return lines
}
