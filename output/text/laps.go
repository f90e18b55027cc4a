// SPDX-License-Identifier: Apache-2.0

// laps.go shortens the story of a packet that goes in circles: a round is told
// once, and how often it was gone.

package text

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// maxLap is how many lines a round may have. Longer ones are told in full.
const maxLap = 24

// toldSteps is steps with rounds told once.
func toldSteps(p *model.Packet) (story []*step, diedNS int64) {
	story, diedNS = steps(p)
	return laps(story), diedNS
}

// laps gives a story with rounds that repeat themselves told once. A round that
// comes twice only is left as it is: two may be two tunnels.
func laps(story []*step) []*step {
	var out []*step
	for i := 0; i < len(story); {
		length, times := lapAt(story[i:])
		if times < 3 {
			out = append(out, story[i])
			i++
			continue
		}
		out = append(out, story[i:i+length]...)
		last := story[i+length*times-1]
		out = append(out, &step{
			atNS: last.atNS, place: last.place, device: last.device, level: odd,
			phrases: []phrase{{text: fmt.Sprintf("the last %s again, %s", plural(uint64(length), "step", "steps"), plural(uint64(times-1), "time", "times"))}},
		})
		i += length * times
	}
	return out
}

// lapAt finds the round that a story begins with: how many lines it has, and how
// often it comes in a row.
func lapAt(story []*step) (length, times int) {
	for length = 1; length <= min(maxLap, len(story)/3); length++ {
		times = 1
		for (times+1)*length <= len(story) && sameLines(story[:length], story[times*length:]) {
			times++
		}
		if times >= 3 {
			return length, times
		}
	}
	return 1, 1
}

// sameLines tells whether a story goes on with the same lines.
func sameLines(round, on []*step) bool {
	for i, s := range round {
		if o := on[i]; s.place != o.place || s.device != o.device || s.copy != o.copy || s.words() != o.words() {
			return false
		}
	}
	return true
}
