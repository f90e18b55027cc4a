// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"testing"
)

// A candidate is written as one line, and read back as far as that tells it.
func TestCandidate(t *testing.T) {
	for line, c := range map[string]struct{ written, read Candidate }{
		"nft inet table calico chain fwd": {Candidate{"nft", "inet", "calico", "fwd", "nft_do_chain_inet"}, Candidate{Backend: "nft", Family: "inet", Table: "calico", Chain: "fwd"}},
		"legacy table raw":                {Candidate{"legacy", "ip", "raw", "", "ipt_do_table"}, Candidate{Backend: "legacy", Table: "raw"}},
		"ip_vs_in":                        {Candidate{Function: "ip_vs_in"}, Candidate{Function: "ip_vs_in"}},
		"":                                {},
		"a table nobody knows":            {Candidate{Function: "a table nobody knows"}, Candidate{Backend: "a", Table: "nobody knows"}},
		"legacy ip raw":                   {Candidate{Function: "legacy ip raw"}, Candidate{Function: "legacy ip raw"}},
	} {
		if got := c.written.String(); got != line {
			t.Errorf("printed %q, want %q", got, line)
		}
		text, err := json.Marshal(Drop{Candidates: Candidates{c.written}})
		if err != nil {
			t.Fatal(err)
		}
		var back Drop
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if got := back.Candidates[0]; got != c.read || got.String() != line {
			t.Errorf("%q was read as %+v, want %+v", line, got, c.read)
		}
	}
}
