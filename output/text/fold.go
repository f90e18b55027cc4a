// SPDX-License-Identifier: Apache-2.0

// fold.go remembers which stories were told, so that the hundredth packet of a
// ping takes no line, and when to say so: as soon as something new happens.

package text

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// maxStories bounds the memory of a long trace: when so many different stories
// were told, all are forgotten and may be told again.
const maxStories = 4096

// storyID identifies what a packet's story says.
type storyID [sha256.Size]byte

// folds knows the stories told and the packets not yet mentioned. The zero
// value is ready to use.
type folds struct {
	told    map[storyID]uint64 // first packet that told it
	pending map[storyID]*fold
	fate    map[model.Direction]string // what became of the direction's last packet
}

// fold is a run of packets that told a story known already.
type fold struct {
	first     uint64 // the packet under which it can be read
	ids       []uint64
	direction model.Direction
	fate      string
	outcome   model.Outcome
}

// add notes p's story. known: it was told before, so p is to be held under id.
// turned: p fares otherwise than the last packet of its direction, so whatever
// is pending is to be printed first.
func (f *folds) add(p *model.Packet) (id storyID, known, turned bool) {
	if f.told == nil || len(f.told) >= maxStories {
		f.told = map[storyID]uint64{}
	}
	if f.fate == nil {
		f.fate, f.pending = map[model.Direction]string{}, map[storyID]*fold{}
	}
	id = sha256.Sum256([]byte(storyKey(p)))
	if _, known = f.told[id]; !known {
		f.told[id] = p.ID
	}
	now := fateWords(p)
	last, seen := f.fate[p.Direction]
	f.fate[p.Direction] = now
	return id, known, seen && last != now
}

// hold adds p, whose story is known as id, to those to be mentioned later.
func (f *folds) hold(id storyID, p *model.Packet) {
	group := f.pending[id]
	if group == nil {
		group = &fold{first: f.told[id], direction: p.Direction, fate: fateWords(p), outcome: p.Outcome}
		f.pending[id] = group
	}
	group.ids = append(group.ids, p.ID)
}

// take gives the pending groups in the order of their packets, and forgets
// them.
func (f *folds) take() []*fold {
	var groups []*fold
	for _, g := range f.pending {
		slices.Sort(g.ids)
		groups = append(groups, g)
	}
	clear(f.pending)
	slices.SortFunc(groups, func(a, b *fold) int { return cmp.Compare(a.ids[0], b.ids[0]) })
	return groups
}

// fateWords says what became of a packet, as folded lines say it.
func fateWords(p *model.Packet) string {
	if p.Outcome.Died() && p.Drop != nil {
		return outcomeWord(p.Outcome) + " " + cause(p.Drop)
	}
	return outcomeWord(p.Outcome)
}

// tellFolded prints a line for each group: "#4-#9  6 more like #3: ...".
func (w *Writer) tellFolded(groups []*fold) {
	for _, g := range groups {
		w.changing = false
		like := fmt.Sprintf("the same as #%d", g.first)
		if len(g.ids) > 1 {
			like = fmt.Sprintf("%d packets, all the same as #%d", len(g.ids), g.first)
		}
		ids := packetIDs(g.ids) + " " + string(g.direction)
		w.page.para(4, span{ids, bold}, span{" " + like + ": ", dim}, span{g.fate, outcomeStyle(g.outcome)})
	}
}
