// SPDX-License-Identifier: Apache-2.0

// output_test.go checks what works on any format.

package output

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// names is a sink that notes what it is given and fails with err.
type names struct {
	got []string
	err error
}

func (n *names) note(name string) error         { n.got = append(n.got, name); return n.err }
func (n *names) Start(*model.Start) error       { return n.note("start") }
func (n *names) Packet(p *model.Packet) error   { return n.note(string(p.Outcome)) }
func (n *names) Node(*model.NodeEvent) error    { return n.note("node") }
func (n *names) Finding(*model.Finding) error   { return n.note("finding") }
func (n *names) Summary(s *model.Summary) error { return n.note("summary") }

func playAll(s model.Sink) error {
	errs := []error{s.Start(&model.Start{})}
	for _, o := range []model.Outcome{model.Delivered, model.Dropped, model.Rejected, model.LeftNode, model.Consumed, model.Unknown} {
		errs = append(errs, s.Packet(&model.Packet{Outcome: o}))
	}
	errs = append(errs, s.Node(&model.NodeEvent{}), s.Finding(&model.Finding{}), s.Summary(&model.Summary{}))
	return errors.Join(errs...)
}

func TestDropsOnly(t *testing.T) {
	var n names
	if err := playAll(DropsOnly(&n)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"start", "dropped", "rejected", "unknown", "node", "finding", "summary"}; !slices.Equal(n.got, want) {
		t.Errorf("got %v, want %v", n.got, want)
	}
}

func TestTeeGoesOnAfterFailure(t *testing.T) {
	full := errors.New("disk full")
	broken, sound := names{err: full}, names{}
	if err := playAll(Tee(&broken, &sound)); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if len(sound.got) != 10 || !slices.Equal(broken.got, sound.got) {
		t.Errorf("got %v and %v", broken.got, sound.got)
	}
}

func TestFormats(t *testing.T) {
	for _, f := range Formats() {
		found, err := Lookup(f.Name)
		if err != nil || found.Name != f.Name {
			t.Errorf("%s: %v", f.Name, err)
		}
		var out bytes.Buffer
		if err := playAll(f.New(&out, Settings{})); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		if out.Len() == 0 {
			t.Errorf("%s wrote nothing", f.Name)
		}
	}
	if _, err := Lookup("yaml"); err == nil || !strings.Contains(err.Error(), "text, json, wide") {
		t.Errorf("got %v", err)
	}
}
