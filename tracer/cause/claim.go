// SPDX-License-Identifier: Apache-2.0

package cause

// This file says what a cause's function is given and what it gives.

import (
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Confidences of a finding.
const (
	Certain = "certain" // the kernel itself said so
	Likely  = "likely"  // all that is known fits; what is missing is told
)

// cause is one row of the table of causes.
type cause struct {
	code string
	// find gives the cause of a packet's end, nil if it is none.
	find func(q *inquiry) *claim
}

// claim is a cause found.
type claim struct {
	code      string // set by the table
	direction model.Direction
	certain   bool
	// subject is what is wrong (a link, a rule, a place): claims of one code about
	// one subject are told as one, though their packets went to many addresses.
	subject  string
	summary  string
	evidence []string
	missing  []string // what would make it certain, or was not to be had
	fix      []string
	// translated: it tells by itself what the packet was translated from.
	translated bool
	// balanced: it tells by itself what IPVS has to do with it.
	balanced bool
	// sum, where there is one, says how many packets it is about, of all that are told
	// as one.
	sum func(packets int) string
	// settle, where there is one, adds what only shows when the trace is over.
	settle func(c *claim)
}

// inquiry is the look into one packet's end.
type inquiry struct {
	p     *model.Packet
	d     *model.Drop // never nil; where the packet did not die, only the place it was seen last
	state State
	start *model.Start
	mem   *memory
	gaps  []string // what could not be asked
	base  *claim   // what was found before, where it is asked again
}

// gap notes what could not be asked.
func (q *inquiry) gap(err error) {
	if err != nil {
		q.gaps = append(q.gaps, err.Error())
	}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
