// SPDX-License-Identifier: Apache-2.0

package attach

// Numbers that the kernel half and this one have to agree on, and that no type
// generated from its objects tells.

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pathtrace/pathtrace/bpf"
)

// defines are the numbers that bpf's headers give names to.
func defines(t *testing.T) map[string]int {
	t.Helper()
	headers, err := filepath.Glob("../../bpf/*.h")
	if err != nil || len(headers) == 0 {
		t.Fatalf("bpf's headers: %v", err)
	}
	line := regexp.MustCompile(`(?m)^#define ([A-Z_]+) ([0-9]+)\b`)
	all := make(map[string]int)
	for _, h := range headers {
		text, err := os.ReadFile(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			if all[m[1]], err = strconv.Atoi(m[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func TestConstantsAreTheKernelHalfs(t *testing.T) {
	its := defines(t)
	for name, ours := range map[string]int{
		"SNAP_MAX": MaxSnapLen, "FRAME_BUFFERS": frameBuffers, "SEARCH_GIB": searchGiB,
		"MAX_BLOCKS": maxBlocks, "MAX_NESTING": maxNesting, "BLOCK_RULES": counterBlock / ruleCounter,
		"ENTRY_BITS": 32 * len(entryBits{}), "WINDOW_SHIFT": WindowShift,
	} {
		if got, known := its[name]; !known || got != ours {
			t.Errorf("%s is %d in bpf (there: %v), %d here", name, got, known, ours)
		}
	}
	spec, err := bpf.LoadTracepoint()
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.Maps["events"].MaxEntries; got != plainRing {
		t.Errorf("the ring buffer has %d bytes, not %d", got, plainRing)
	}
	for i := range numberedBrackets {
		if name := numbered(i); spec.Programs[name] == nil {
			t.Errorf("no program %s", name)
		}
	}
	if name := numbered(numberedBrackets); spec.Programs[name] != nil {
		t.Errorf("program %s is never hung in", name)
	}
}
