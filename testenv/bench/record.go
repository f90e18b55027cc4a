// SPDX-License-Identifier: Apache-2.0

// Results as JSON Lines: one object a line, "type" first, so that runs can be
// gathered, compared and drawn up again.

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Setting is where and how results were got.
type Setting struct {
	Label    string        `json:"label"` // native, vm-6.12, ...
	Time     time.Time     `json:"time"`
	Kernel   string        `json:"kernel"`
	CPUs     int           `json:"cpus"`
	Size     Size          `json:"size"`
	Rounds   int           `json:"rounds"`
	Slot     time.Duration `json:"slot_ns"`
	Binaries []Binary      `json:"binaries,omitempty"`
	Softirqd bool          `json:"softirqd"` // whether the softirq threads' time is in CPU times
}

// Binary is a program's size.
type Binary struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// NewSetting describes this machine and run.
func NewSetting(label string, n *Node, p Plan, binaries ...string) (Setting, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Setting{}, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	cpus, err := CPUs()
	if err != nil {
		return Setting{}, err
	}
	s := Setting{Label: label, Time: time.Now(), Kernel: unix.ByteSliceToString(u.Release[:]) + " " + runtime.GOARCH,
		CPUs: len(cpus), Size: n.Size, Rounds: p.Rounds, Slot: p.Slot, Softirqd: len(n.softirqd) > 0}
	for _, path := range binaries {
		info, err := os.Stat(path)
		if err != nil {
			return s, fmt.Errorf("size of a program: %w", err)
		}
		s.Binaries = append(s.Binaries, Binary{path, info.Size()})
	}
	return s, nil
}

// Record is one line; exactly one member beside Type is set.
type Record struct {
	Type        string       `json:"type"`
	Setting     *Setting     `json:"setting,omitempty"`
	Comparison  *Comparison  `json:"comparison,omitempty"`
	Life        *ToolLife    `json:"life,omitempty"`
	Unavailable *Unavailable `json:"unavailable,omitempty"`
	Program     *ToolProgram `json:"program,omitempty"`
	OwnRate     *OwnRate     `json:"own_rate,omitempty"`
}

// ToolProgram is a program's cost with the tool it belongs to.
type ToolProgram struct {
	Tool string `json:"tool"`
	ProgramCost
}

// Types of records.
const (
	TypeSetting     = "setting" // what follows was got there, until the next one
	TypeComparison  = "comparison"
	TypeLife        = "life"
	TypeUnavailable = "unavailable"
	TypeProgram     = "program"
	TypeOwnRate     = "own-rate"
)

// Records turns a comparison into lines.
func (r Result) Records() []Record {
	var all []Record
	for _, c := range r.Comparisons {
		all = append(all, Record{Type: TypeComparison, Comparison: &c})
	}
	for _, l := range r.Lives {
		all = append(all, Record{Type: TypeLife, Life: &l})
	}
	for _, u := range r.Unavailable {
		all = append(all, Record{Type: TypeUnavailable, Unavailable: &u})
	}
	return all
}

// Write writes lines.
func Write(w io.Writer, records []Record) error {
	enc := json.NewEncoder(w)
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write a result: %w", err)
		}
	}
	return nil
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]Record, error) {
	var all []Record
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var rec Record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			return nil, fmt.Errorf("line %d of the results: %w", len(all)+1, err)
		}
		all = append(all, rec)
	}
	return all, lines.Err()
}
