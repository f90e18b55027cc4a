// SPDX-License-Identifier: Apache-2.0

// late.go puts into the file what is known only later, where a reader looks
// first: findings into the packets that they are about, the verdict into the
// file's own comment. Room was left for both; a trace that is killed leaves the
// room empty, and nothing else is different.

package pcapng

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// Bytes of room; what does not fit is cut, and told in full by pathtrace read.
const (
	findingRoom = 1 << 10
	verdictRoom = 1 << 12
)

// maxLate bounds how many deaths are remembered for it.
const maxLate = 1 << 16

// late remembers where there is room. The zero value is ready.
type late struct {
	verdict int64
	drops   map[uint64]int64 // by packet
}

// drop remembers the room of a packet that died.
func (l *late) drop(packet uint64, at int64) {
	if l.drops == nil {
		l.drops = map[uint64]int64{}
	}
	if len(l.drops) < maxLate {
		l.drops[packet] = at
	}
}

// close tells what is known at the end.
func (l *late) close(to io.WriterAt, s *model.Summary, findings []*model.Finding) error {
	if err := l.tell(to, findings); err != nil {
		return err
	}
	if _, err := to.WriteAt(fill([]byte(verdictComment(s, findings)), verdictRoom), l.verdict); err != nil {
		return fmt.Errorf("verdict: %w", err)
	}
	return nil
}

// tell puts findings into the comments of the packets that they name. What was
// put there before makes room for it.
func (l *late) tell(to io.WriterAt, findings []*model.Finding) error {
	about := map[uint64][]string{}
	for _, f := range findings {
		comment := findingComment(f)
		for _, id := range f.Packets {
			if _, ok := l.drops[id]; ok {
				about[id] = append(about[id], comment)
			}
		}
	}
	ids := make([]uint64, 0, len(about))
	for id := range about {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(l.drops[a], l.drops[b]) })
	for _, id := range ids {
		if _, err := to.WriteAt(fill([]byte(strings.Join(about[id], "\n")), findingRoom), l.drops[id]); err != nil {
			return fmt.Errorf("finding of packet %d: %w", id, err)
		}
	}
	return nil
}
