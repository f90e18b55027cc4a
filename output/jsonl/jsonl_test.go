// SPDX-License-Identifier: Apache-2.0

// jsonl_test.go checks the promises of docs/json.md: order and names of the
// fields, one write per object, nothing lost when a trace is read back, and a
// description for every field.

package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// objects is a sink that keeps what it is given.
type objects []any

func (o *objects) Start(s *model.Start) error     { *o = append(*o, s); return nil }
func (o *objects) Packet(p *model.Packet) error   { *o = append(*o, p); return nil }
func (o *objects) Node(e *model.NodeEvent) error  { *o = append(*o, e); return nil }
func (o *objects) Finding(f *model.Finding) error { *o = append(*o, f); return nil }
func (o *objects) Summary(s *model.Summary) error { *o = append(*o, s); return nil }

func send(t *testing.T, to model.Sink, list []any) {
	t.Helper()
	for _, object := range list {
		var err error
		switch o := object.(type) {
		case *model.Start:
			err = to.Start(o)
		case *model.Packet:
			err = to.Packet(o)
		case *model.NodeEvent:
			err = to.Node(o)
		case *model.Finding:
			err = to.Finding(o)
		case *model.Summary:
			err = to.Summary(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filled gives every exported field of the value, at every depth, a value that
// is not zero, so that the round trip misses none, later ones included.
func filled(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2025, 6, 3, 12, 0, 0, 100000000+*n, time.UTC)))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)})))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(*n), 0}), 24)))
		return
	case model.Candidate: // one line
		v.Set(reflect.ValueOf(model.Candidate{Function: "hook \"a<b>&\u00e9\" #" + string(rune('a'+*n%26))}))
		return
	case model.Prefixes:
		v.Set(reflect.ValueOf(model.Prefixes{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::1/128"), netip.MustParsePrefix("10.1.0.0/16")}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" { // not for JSON: a packet's bytes
				filled(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(v.Index(0), n)
		filled(v.Index(1), n)
	case reflect.String:
		v.SetString("-A x -m comment --comment \"a<b>&\u00e9\" #" + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	default:
		if v.CanInt() {
			v.SetInt(int64(*n%99 + 1))
		} else {
			v.SetUint(uint64(*n%99 + 1))
		}
	}
}

func everything() []any {
	var n int
	list := []any{&model.Start{}, &model.Packet{}, &model.NodeEvent{}, &model.Finding{}, &model.Summary{}}
	for _, object := range list {
		filled(reflect.ValueOf(object).Elem(), &n)
	}
	list[0].(*model.Start).Type = model.TypeStart
	list[1].(*model.Packet).Type = model.TypePacket
	list[2].(*model.NodeEvent).Type = model.TypeNode
	list[3].(*model.Finding).Type = model.TypeFinding
	list[4].(*model.Summary).Type = model.TypeSummary
	return list
}

func TestRoundTrip(t *testing.T) {
	want := everything()
	var out bytes.Buffer
	send(t, New(&out), want)
	var got objects
	if err := model.ReadJSON(&out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d objects came back, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("object %d:\n got %+v\nwant %+v", i, got[i], want[i])
		}
	}
}

func TestLines(t *testing.T) {
	client, server := netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("10.244.1.6")
	for name, tc := range map[string]struct {
		send func(*Writer) error
		want string
	}{
		"start": {
			func(w *Writer) error {
				return w.Start(&model.Start{
					Time: time.Date(2025, 6, 3, 12, 0, 0, 120000001, time.UTC), Version: "0.1.0", Kernel: "6.12.1", Backend: "fentry", Hooks: 24, AttachMS: 312.25,
					Src: model.End{Given: "10.244.1.5", Kind: "address", Addresses: model.Prefixes{netip.PrefixFrom(client, 32)}},
					Dst: model.End{Given: "10.244.0.0/16", Kind: "cidr", Addresses: model.Prefixes{netip.MustParsePrefix("10.244.0.0/16")}},
				})
			},
			`{"type":"start","time":"2025-06-03T12:00:00.120000001Z","version":"0.1.0","kernel":"6.12.1","backend":"fentry","hooks":24,"attach_ms":312.25,` +
				`"src":{"given":"10.244.1.5","kind":"address","addresses":["10.244.1.5"]},"dst":{"given":"10.244.0.0/16","kind":"cidr","addresses":["10.244.0.0/16"]}}`,
		},
		"packet without hops": {
			func(w *Writer) error {
				return w.Packet(&model.Packet{
					ID: 1, Direction: model.Forward, Time: time.Date(2025, 6, 3, 12, 0, 0, 5, time.UTC), Proto: "udp",
					Src: client, SrcPort: 5000, Dst: server, DstPort: 53, Length: 84, Outcome: model.Unknown,
				})
			},
			`{"type":"packet","id":1,"direction":"forward","time":"2025-06-03T12:00:00.000000005Z","proto":"udp","src":"10.244.1.5","sport":5000,"dst":"10.244.1.6","dport":53,"length":84,"outcome":"unknown","hops":[]}`,
		},
		"rewrite of one end": {
			func(w *Writer) error {
				return w.Packet(&model.Packet{Hops: []model.Hop{{Stage: model.StageNAT, Before: &model.Endpoints{Dst: server, DstPort: 80}}}})
			},
			`{"type":"packet","id":0,"direction":"","time":"0001-01-01T00:00:00Z","proto":"","src":"","dst":"","length":0,"outcome":"","hops":[{"at_ns":0,"stage":"nat","before":{"dst":"10.244.1.6","dport":80}}]}`,
		},
		"finding without evidence": {
			func(w *Writer) error {
				return w.Finding(&model.Finding{Code: "mtu", Confidence: "likely", Summary: "a > b & c"})
			},
			`{"type":"finding","code":"mtu","confidence":"likely","summary":"a > b & c","evidence":[]}`,
		},
		"node": {
			func(w *Writer) error {
				return w.Node(&model.NodeEvent{Time: time.Unix(0, 0).UTC(), What: "link-down", Object: "cali1", By: &model.By{PID: 7, Comm: "ip"}})
			},
			`{"type":"node","time":"1970-01-01T00:00:00Z","what":"link-down","object":"cali1","by":{"pid":7,"comm":"ip"},"text":""}`,
		},
		"summary": {
			func(w *Writer) error {
				return w.Summary(&model.Summary{Forward: model.Counts{Seen: 1, Dropped: 1}, DurationMS: 10})
			},
			`{"type":"summary","forward":{"seen":1,"delivered":0,"dropped":1,"rejected":0,"left_node":0,"unknown":0},"return":{"seen":0,"delivered":0,"dropped":0,"rejected":0,"left_node":0,"unknown":0},"lost_events":0,"lost_packets":0,"missed_hooks":[],"duration_ms":10}`,
		},
	} {
		var got bytes.Buffer
		if err := tc.send(New(&got)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.String() != tc.want+"\n" {
			t.Errorf("%s:\n got %s\nwant %s", name, got.String(), tc.want)
		}
	}
}

// counter counts writes.
type counter int

func (c *counter) Write(p []byte) (int, error) { *c++; return len(p), nil }

func TestOneWritePerObject(t *testing.T) {
	var writes counter
	send(t, New(&writes), everything())
	if writes != 5 {
		t.Errorf("%d writes for 5 objects", writes)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestWriteErrorIsKept(t *testing.T) {
	want := errors.New("no space left on device")
	if err := New(broken{want}).Packet(&model.Packet{}); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// Every field and every object type stands in docs/json.md in backticks.
func TestEveryFieldIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	known := func(name string) bool { return strings.Contains(string(doc), "`"+name+"`") }
	for _, object := range everything() {
		line, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(line, &tree); err != nil {
			t.Fatal(err)
		}
		walk(tree, func(name string) {
			if !known(name) {
				t.Errorf("field %s of %T is not in docs/json.md", name, object)
			}
		})
	}
	for _, value := range []string{
		model.TypeStart, model.TypePacket, model.TypeNode, model.TypeFinding, model.TypeSummary,
		string(model.Delivered), string(model.Dropped), string(model.Rejected), string(model.LeftNode), string(model.Consumed), string(model.Unknown),
		string(model.StageTransmit), string(model.StageAnswer), string(model.StageDrop), string(model.RuleExact), string(model.RuleInferred),
	} {
		if !known(value) {
			t.Errorf("value %s is not in docs/json.md", value)
		}
	}
}

func walk(tree any, visit func(string)) {
	switch node := tree.(type) {
	case map[string]any:
		for name, child := range node {
			visit(name)
			walk(child, visit)
		}
	case []any:
		for _, child := range node {
			walk(child, visit)
		}
	}
}

// What a packet of the usual length costs.
func BenchmarkPacket(b *testing.B) {
	p := &model.Packet{
		ID: 1, Direction: model.Forward, Time: time.Now(), Proto: "tcp", Length: 60, Outcome: model.Delivered,
		Src: netip.MustParseAddr("10.244.1.5"), SrcPort: 40000, Dst: netip.MustParseAddr("10.244.1.6"), DstPort: 80,
	}
	for i := range 20 {
		p.Hops = append(p.Hops, model.Hop{
			AtNS: int64(i) * 1000, Stage: model.StageNetfilter, Netns: 4026532301, Place: "node", Interface: "cali1a2b3c4d5e6", IfIndex: 12,
			Function: "ipt_do_table", Hook: "FORWARD", Table: "filter", Backend: "legacy", Verdict: "accept", SKB: "0xffff888101b2c300", Length: 60, CPU: 1,
		})
	}
	w := New(io.Discard)
	for b.Loop() {
		if err := w.Packet(p); err != nil {
			b.Fatal(err)
		}
	}
}
