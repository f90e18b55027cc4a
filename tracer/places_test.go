// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/node"
)

// TestBalances: whether IPVS has a service is asked once in a while, of each namespace, and
// again at once where it could not be asked.
func TestBalances(t *testing.T) {
	asked, warned := 0, 0
	var services []node.VirtualService
	var failed error
	p := &placeBook{balances: make(map[uint32]balanced), warn: func(string) { warned++ },
		services: func(uint32) ([]node.VirtualService, error) {
			asked++
			return services, failed
		}}
	want := func(what string, is bool, netns uint32, times, warnings int) {
		t.Helper()
		if got := p.Balances(netns); got != is || asked != times || warned != warnings {
			t.Errorf("%s: %v, asked %d times, warned %d times; want %v, %d, %d", what, got, asked, warned, is, times, warnings)
		}
	}
	failed = errors.New("no answer")
	want("not to be asked", false, 1, 1, 1)
	want("nor the next time", false, 1, 2, 1)
	failed, services = nil, []node.VirtualService{{Proto: "tcp"}}
	want("right after an error", true, 1, 3, 1)
	services = nil
	want("still fresh", true, 1, 3, 1)
	want("another namespace", false, 2, 4, 1)
	p.balances[1] = balanced{true, time.Now().Add(-balancesFor)}
	want("stale", false, 1, 5, 1)
}
