// SPDX-License-Identifier: Apache-2.0

// pathtrace as a tool: started as a user starts it, its JSON Lines read for
// what it says of itself. Packets are only counted: at full rate there are more
// than can be decoded here without taking the CPU from what is measured.

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// trace is a pathtrace process.
type trace struct {
	*process

	mu        sync.Mutex
	start     *model.Start
	summary   *model.Summary
	summaryAt time.Time
	packets   int
	err       error // of reading
}

// exitStatuses of a trace that went well: packets died, or none was seen
// (cmd/pathtrace, model.Summary.ExitStatus).
var exitStatuses = []int{2, 3}

func startPathtrace(ctx context.Context, n *Node, bin string, args ...string) (*trace, error) {
	dir, err := os.MkdirTemp(n.Env.StateDir, "trace-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the ready file: %w", err)
	}
	ready := filepath.Join(dir, "ready")
	t := &trace{}
	all := append([]string{"-o", "json", "--ready-file", ready, "--netns", n.Env.Node(1).Netns.Path}, args...)
	t.process, err = startProcess(ctx, processSpec{
		name: filepath.Base(bin), bin: bin, args: all, readyFile: ready, line: t.line, statuses: exitStatuses,
	})
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return nil, err
	}
	return t, nil
}

// line takes a line of output. Those of packets, by far the most, are told by
// their beginning.
func (t *trace) line(text []byte) {
	isPacket := bytes.HasPrefix(text, []byte(`{"type":"packet"`))
	t.mu.Lock()
	defer t.mu.Unlock()
	if isPacket {
		t.packets++
		return
	}
	for _, object := range []struct {
		kind string
		to   any
	}{{`{"type":"start"`, &t.start}, {`{"type":"summary"`, &t.summary}} {
		if !bytes.HasPrefix(text, []byte(object.kind)) {
			continue
		}
		t.summaryAt = time.Now()
		if err := json.Unmarshal(text, object.to); err != nil {
			t.err = fmt.Errorf("read pathtrace's output: %w", err)
		}
	}
}

// Stop ends the trace.
func (t *trace) Stop() (Life, error) {
	life, err := t.process.Stop()
	if err != nil {
		return life, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.err != nil:
		return life, t.err
	case t.start == nil || t.summary == nil:
		return life, fmt.Errorf("%s printed no start or no summary: %s", t.spec.name, t.stderr.String())
	}
	life.Verdict = t.summaryAt.Sub(t.asked)
	life.Attach = time.Duration(t.start.AttachMS * float64(time.Millisecond))
	life.Hooks = t.start.Hooks
	return life, nil
}

// told gives what it said in the end, after Stop.
func (t *trace) told() (start *model.Start, summary *model.Summary, packets int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.start, t.summary, t.packets
}
