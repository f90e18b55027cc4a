// SPDX-License-Identifier: Apache-2.0

package infer

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/ruleset/packet"
	"github.com/pathtrace/pathtrace/tracer/ruleset/walk"
)

type (
	ways = walk.Walk[model.Rule]
	way  = walk.Outcome[model.Rule]
)

// ending is a way that a rule with this number ends.
func ending(number int, verdict string) way {
	rule := model.Rule{Table: "filter", Chain: "FORWARD", Number: number}
	return way{Steps: []walk.Step[model.Rule]{{Match: rule}}, Verdict: verdict}
}

func TestWhatWasSeenWins(t *testing.T) {
	accept, drop, reject, other := ending(1, "accept"), ending(2, "drop"), ending(3, "reject"), ending(4, "accept")
	queue, open := ending(5, "queue"), ending(6, "")
	tests := []struct {
		about        string
		w            ways
		seen         string
		decided      int // number of the rule; 0: none
		verdict      string
		alternatives int
		unknown      string
	}{
		{"one way", ways{Outcomes: []way{accept}, Complete: true}, "accept", 1, "accept", 0, ""},
		{"one of two fits", ways{Outcomes: []way{accept, drop}, Complete: true}, "drop", 2, "drop", 0, ""},
		{"a reject is seen as drop", ways{Outcomes: []way{accept, reject}, Complete: true}, "drop", 3, "reject", 0, ""},
		{"a drop is not seen as reject", ways{Outcomes: []way{drop, reject}, Complete: true}, "reject", 3, "reject", 0, ""},
		{"two fit", ways{Outcomes: []way{accept, other, drop}, Unknown: []string{"limit"}, Complete: true}, "accept", 0, "", 2, "one of 2 rules; not seen: limit"},
		{"two ways by one rule", ways{Outcomes: []way{drop, drop}, Complete: true}, "drop", 2, "drop", 0, ""},
		{"one rule, two verdicts", ways{Outcomes: []way{drop, ending(2, "reject")}, Complete: true}, "drop", 2, "", 0, ""},
		{"none fits", ways{Outcomes: []way{drop}, Complete: true}, "accept", 0, "", 0, "they would drop by filter/FORWARD rule 2"},
		{"none fits of those followed", ways{Outcomes: []way{drop}}, "accept", 0, "", 0, "more than were followed"},
		{"one fits of those followed", ways{Outcomes: []way{drop, accept}}, "accept", 0, "", 1, "more ways"},
		{"no verdict was seen", ways{Outcomes: []way{drop, accept}, Complete: true}, "", 0, "", 2, "one of 2"},
		{"a program decides", ways{Outcomes: []way{queue, drop}, Complete: true}, "accept", 5, "queue", 0, ""},
		{"a target not known", ways{Outcomes: []way{open, accept}, Complete: true}, "drop", 6, "", 0, ""},
		{"stolen is something else", ways{Outcomes: []way{accept, drop}, Complete: true}, "stolen", 0, "", 0, "do not explain"},
	}
	for _, test := range tests {
		r := decide(test.w, test.seen)
		number := 0
		if r.Decided != nil {
			number = r.Decided.Number
		}
		if number != test.decided || r.Verdict != test.verdict || len(r.Alternatives) != test.alternatives || !strings.Contains(r.Unknown, test.unknown) ||
			(r.Decided == nil) != (r.Unknown != "") {
			t.Errorf("%s: %+v", test.about, r)
		}
	}
}

func TestWhoAsksNATRules(t *testing.T) {
	tests := []struct {
		hook   string
		state  string
		status packet.Fact[uint32]
		want   packet.Answer
	}{
		{"PREROUTING", packet.StateNew, packet.Known[uint32](0), packet.Yes},
		{"PREROUTING", packet.StateNew, packet.Known[uint32](ipsDestination), packet.No},
		{"POSTROUTING", packet.StateNew, packet.Known[uint32](ipsDestination), packet.Yes},
		{"POSTROUTING", packet.StateNew, packet.Known[uint32](ipsDestination | ipsSourceDone | ipsConfirmed), packet.No},
		{"PREROUTING", packet.StateNew, packet.Fact[uint32]{}, packet.Unknown},
		{"PREROUTING", packet.StateEstablished, packet.Fact[uint32]{}, packet.No},
		{"PREROUTING", packet.StateInvalid, packet.Fact[uint32]{}, packet.No},
		{"PREROUTING", "", packet.Fact[uint32]{}, packet.Unknown},
		{"PREROUTING", "", packet.Known[uint32](0), packet.Unknown},
	}
	for _, test := range tests {
		p := &packet.Packet{Hook: test.hook, CT: packet.Conntrack{Status: test.status}}
		if test.state != "" {
			p.CT.State = packet.Known(test.state)
		}
		got, why := asked(natTable{}, Target{}, p)
		if got != test.want || (got == packet.No) != (why != "") {
			t.Errorf("%+v: %s %q", test, got, why)
		}
	}
}

// natTable is a table of which only that matters that it is NAT's.
type natTable struct{ Rules }

func (natTable) nat(Target) bool { return true }
