// SPDX-License-Identifier: Apache-2.0

package iptnft

// This file prints rule sets that real programs wrote on real nodes: Calico,
// flannel with the CNI portmap plugin, kube-proxy.

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/ruleset/nft"
)

// fixture reads a file of testdata, packed or not; "" if there is none.
func fixture(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("testdata", name)
	if b, err := os.ReadFile(path); err == nil {
		return string(b)
	} else if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := os.Open(path + ".gz")
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFixtures(t *testing.T) {
	total := 0
	for _, f := range []struct {
		name  string
		rules int // at least so many, lest the comparison be of nothing
	}{
		{"calico-node1", 150}, {"calico-node2", 80}, {"flannel-node1", 15}, {"flannel-node2", 8},
		{"flannel-portmap", 5}, {"kube-proxy", 200}, {"kube-proxy-300", 3000},
	} {
		t.Run(f.name, func(t *testing.T) {
			n := newNode(t)
			if sets := fixture(t, f.name+"/sets.save"); sets != "" {
				n.run(sets, "ipset", "restore")
			}
			rules := 0
			for _, family := range []string{nft.FamilyIP, nft.FamilyIP6} {
				save := fixture(t, f.name+"/"+family+".save")
				if save == "" {
					continue
				}
				n.accounts(save)
				n.run(save, tools[family]+"-restore")
				if got, want := n.same(family), strings.Count("\n"+save, "\n-A "); got != want {
					t.Errorf("%s: %d rules compared, the file has %d", family, got, want)
				} else {
					rules += got
				}
			}
			if rules < f.rules {
				t.Errorf("%d rules compared, there should be %d or more", rules, f.rules)
			}
			t.Logf("%d rules compared", rules)
			total += rules
		})
	}
	t.Logf("%d rules compared", total)
}
