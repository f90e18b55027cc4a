// SPDX-License-Identifier: Apache-2.0

// json_test.go checks reading traces back: bad lines are named, unknown types
// are skipped, addresses come in both forms.

package model

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

type count int

func (c *count) Start(*Start) error     { *c++; return nil }
func (c *count) Packet(*Packet) error   { *c++; return nil }
func (c *count) Node(*NodeEvent) error  { *c++; return nil }
func (c *count) Finding(*Finding) error { *c++; return nil }
func (c *count) Summary(*Summary) error { *c++; return nil }

func TestReadJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		objects count
		err     string
	}{
		"empty":             {"", 0, ""},
		"no final newline":  {`{"type":"summary"}`, 1, ""},
		"blank lines":       {"\n{\"type\":\"packet\",\"id\":1}\n\n{\"type\":\"node\"}\n", 2, ""},
		"unknown type":      {`{"type":"weather"}` + "\n" + `{"type":"finding"}`, 1, ""},
		"unknown field":     {`{"type":"packet","colour":1}`, 1, ""},
		"no type":           {"{}", 0, "line 1: object has no type"},
		"cut off":           {"{\"type\":\"node\"}\n{\"type\":", 1, "line 2: unexpected end of JSON input"},
		"wrong kind":        {`{"type":"packet","id":"x"}`, 0, "line 1: json: cannot unmarshal string into Go struct field Packet.id of type uint64"},
		"malformed address": {`{"type":"start","src":{"addresses":["10.0.0"]}}`, 0, `line 1: address "10.0.0": `},
	} {
		var got count
		err := ReadJSON(strings.NewReader(tc.text), &got)
		if got != tc.objects {
			t.Errorf("%s: %d objects, want %d", name, got, tc.objects)
		}
		if (err == nil) != (tc.err == "") || (err != nil && !strings.HasPrefix(err.Error(), tc.err)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.err)
		}
	}
}

func TestPrefixes(t *testing.T) {
	in := Prefixes{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::1/128"), netip.MustParsePrefix("0.0.0.0/0")}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `["10.0.0.1","fd00::1","0.0.0.0/0"]`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var out Prefixes
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for i := range in {
		if in[i] != out[i] {
			t.Errorf("%s came back as %s", in[i], out[i])
		}
	}
	if want := "10.0.0.1, fd00::1, 0.0.0.0/0"; in.String() != want {
		t.Errorf("got %q, want %q", in.String(), want)
	}
}

func TestExitStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		s    Summary
		want int
	}{
		"nothing seen":              {Summary{}, 3},
		"all delivered":             {Summary{Forward: Counts{Seen: 2, Delivered: 2}}, 0},
		"left the node":             {Summary{Forward: Counts{Seen: 2, LeftNode: 2}}, 0},
		"a reply died":              {Summary{Forward: Counts{Seen: 2, Delivered: 2}, Return: Counts{Seen: 1, Rejected: 1}}, 2},
		"only replies":              {Summary{Return: Counts{Seen: 1, Delivered: 1}}, 0},
		"a fault, and nothing seen": {Summary{Faults: 1}, 2},
	} {
		if got := tc.s.ExitStatus(); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
