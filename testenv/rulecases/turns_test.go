// SPDX-License-Identifier: Apache-2.0

// Two sets take turns while packets die by them. The rule before the one that
// drops tells the kernel's NFLOG which it was.

package rulecases

import (
	"errors"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// turns sends packets while the sets take turns at a rate, half of a rate's
// packets for each kind of sets.
func (a *attack) turns(t *testing.T, differs string, rate float64, first bool) {
	p := pair{tool: a.tool, differs: differs, logged: true}
	w := a.swapper(t, p)
	if !a.trace(t, first) {
		time.Sleep(a.p.lateFunctions(first))
	}
	already, packets := len(a.tr.Packets()), a.todo.packets/2
	log := listenLog(t, a.s.node, pairGroup)
	w.run(time.Duration(float64(time.Second) / rate))
	err := a.s.client.Netns.Do(func() error {
		for range packets {
			if err := a.send(a.port()); err != nil {
				return err
			}
			time.Sleep(a.todo.pace)
		}
		return nil
	})
	took := time.Since(w.begun)
	n, _, swapErr := w.halt()
	if err := errors.Join(err, swapErr, w.stop()); err != nil {
		t.Fatal(err)
	}
	told := awaitCount(a.tr, already, packets)
	row := tallyRow{tool: a.tool, differs: differs, rate: rate}
	a.all.add(row, counts{replaced: n, took: took})
	a.checkTurns(t, p, row, told, log.stop(t))
}

func (a *attack) checkTurns(t *testing.T, p pair, row tallyRow, told []model.Packet, log []tracedRule) {
	t.Helper()
	truth, met := map[string]string{}, map[string]int{}
	for _, r := range log {
		truth[r.packet] = r.prefix
		met[r.prefix]++
	}
	unknown, sum, passed := map[string]int{}, 0, 0
	for i := range told {
		set := truth[keyOf(&told[i])]
		if set == "" {
			// in the middle of a commit a packet may meet a chain that has no rules
			if d := told[i].Drop; d != nil && d.Hook != "" || told[i].Outcome == model.Unknown {
				t.Fatalf("the kernel did not log %s", tell(&told[i]))
			}
			passed++
			continue
		}
		why, problem := p.told(&told[i], set)
		if why != "" {
			unknown[why]++
			sum++
		}
		a.report(t, row, &told[i], why, problem)
	}
	t.Logf("%d packets told, met %v, %d unknown: %v", len(told), met, sum, unknown)
	if want := a.todo.packets / 2; len(told) != want || len(log)+passed != want {
		t.Errorf("%d packets sent, %d told, %d logged, %d let pass by both sets", want, len(told), len(log), passed)
	}
	if met["A"] == 0 || met["B"] == 0 {
		t.Errorf("met %v: nothing was replaced under the trace", met)
	}
	if most := unknownBound(row.rate); !a.p.exact() && sum*100 >= most*len(told) {
		t.Errorf("%d of %d rules unknown, %d%% or more", sum, len(told), most)
	}
}
