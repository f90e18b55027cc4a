// SPDX-License-Identifier: Apache-2.0

package nft

// Real rule sets of Calico, flannel and kube-proxy: every rule reads as nft
// lists it.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRealRuleSetsReadAsNftListsThem(t *testing.T) {
	files, err := filepath.Glob("testdata/rulesets/*.nft")
	if err != nil || len(files) < 6 {
		t.Fatalf("rule sets in testdata: %v %v", files, err)
	}
	var total int
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".nft"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newSpace(t, string(script))
			n := s.compare()
			t.Logf("%d rules", n)
			total += n
		})
	}
	if total < 850 {
		t.Errorf("only %d rules compared", total)
	}
	t.Logf("%d rules compared", total)
}
