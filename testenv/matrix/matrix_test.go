// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// A miss, a false alarm and a second try among a test's other output.
const output = `=== RUN   TestScenarios
    findings_test.go:1: result {"kernel":"6.12","backend":"fentry","scenario":"calico-nft/ttl-one-udp","code":"ttl"}
    findings_test.go:1: result {"kernel":"6.12","backend":"fentry","scenario":"calico-nft/ttl-one-udp","code":"ttl","found":"certain"}
    findings_test.go:1: result {"kernel":"6.12","backend":"fentry","scenario":"flannel-nft/mtu-udp","code":"mtu","found":"likely"}
    findings_test.go:1: result {"kernel":"6.12","backend":"fentry","scenario":"flannel-nft/mtu-icmp","code":"mtu"}
    findings_test.go:1: result {"kernel":"6.12","backend":"fentry","scenario":"flannel-nft/healthy-udp","alarms":["left-node"]}
--- PASS: TestScenarios
`

func TestTable(t *testing.T) {
	results, err := Read(strings.NewReader(output), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	totals, err := Table(&out, results, []string{"ttl", "mtu", "queue-full"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Totals{OK: 1, Likely: 1, Missed: 1, Healthy: 1, Alarms: 1}); totals != want || totals.Good() {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	want := `kernel 6.12, fentry  calico-nft  flannel-nft
mtu                  -           MISS
queue-full           -           -
ttl                  ok          -
missed: flannel-nft/mtu-icmp: no finding mtu
false alarm: flannel-nft/healthy-udp: found left-node
3 faults: 1 ok, 1 likely, 1 missed; 1 healthy; false alarms in 1

`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
	if _, err := Read(strings.NewReader("result {broken"), nil); err == nil {
		t.Error("a broken line is taken")
	}
	good, err := Read(strings.NewReader(strings.Split(output, "\n")[2]), nil)
	if err != nil {
		t.Fatal(err)
	}
	if totals, err := Table(&out, good, nil); err != nil || !totals.Good() {
		t.Errorf("all told, but %v, %v", totals, err)
	}
}

// What was told wrong is named as its test is, also when it was found of the
// healthy traffic after the fault.
func TestWrong(t *testing.T) {
	twin := `result {"kernel":"6.12","backend":"fentry","scenario":"flannel-nft/mtu-icmp, healthy","alarms":["ttl"]}`
	results, err := Read(strings.NewReader(output+twin), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"flannel-nft/mtu-icmp", "flannel-nft/healthy-udp"}
	if got := Wrong(results); !slices.Equal(got, want) {
		t.Errorf("wrong: %q, want %q", got, want)
	}
}
