// SPDX-License-Identifier: Apache-2.0

package nft

// A corpus of rules over every expression and family, written by hand for nft:
// each reads as nft lists it.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpusScript is one script of all rules in testdata/corpus. The file NAME.rules
// goes to chain c-NAME of table t of the family its name begins with.
func corpusScript(t testing.TB) (string, int) {
	t.Helper()
	preamble, err := os.ReadFile("testdata/corpus/preamble.nft")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/corpus/*.rules")
	if err != nil {
		t.Fatal(err)
	}
	script, count := strings.Builder{}, 0
	script.Write(preamble)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".rules")
		family, _, _ := strings.Cut(name, "-")
		if name == "output" {
			family = FamilyInet
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			fmt.Fprintf(&script, "add rule %s t c-%s %s\n", family, name, line)
			count++
		}
	}
	return script.String(), count
}

// corpusDevice is the device that netdev chains hang on.
const corpusDevice = "ip link add dum0 type veth peer name dum1"

func TestCorpusReadsAsNftListsIt(t *testing.T) {
	script, count := corpusScript(t)
	s := newSpace(t, script, corpusDevice)
	if n := s.compare(); n != count {
		t.Errorf("%d rules compared of %d written", n, count)
	}
	t.Logf("%d rules compared", count)
}
