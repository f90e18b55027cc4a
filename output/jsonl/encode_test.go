// SPDX-License-Identifier: Apache-2.0

// encode_test.go holds the encoder against encoding/json.

package jsonl

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

// standard is what encoding/json makes of objects.
func standard(t testing.TB, list []any) string {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, o := range list {
		if err := enc.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestAsEncodingJSONDoes(t *testing.T) {
	lists := map[string][]any{"everything": everything()}
	for name, trace := range recorded.Traces(t, "../../tracer/cause/testdata", 1) {
		var got objects
		if err := model.ReadJSON(bytes.NewReader(trace), &got); err != nil {
			t.Fatal(err)
		}
		lists[name] = got
	}
	for name, list := range lists {
		var got bytes.Buffer
		send(t, New(&got), list)
		if want := standard(t, list); got.String() != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got.String(), want)
		}
	}
}

// Times of any zone, and ones that JSON has no form for.
func TestTimes(t *testing.T) {
	for _, when := range []time.Time{{}, time.Unix(1, 0), time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 5*3600+1800)), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} {
		var got bytes.Buffer
		e := &model.NodeEvent{Type: model.TypeNode, Time: when}
		if err := New(&got).Node(e); err != nil {
			t.Error(err)
		}
		if want := standard(t, []any{e}); got.String() != want {
			t.Errorf("got %s, want %s", got.String(), want)
		}
	}
	var got bytes.Buffer
	if err := New(&got).Node(&model.NodeEvent{Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil || got.Len() > 0 {
		t.Errorf("year 10000: %v, %q", err, got.String())
	}
}

// Whatever the text, it is written as encoding/json does, but for what is no
// UTF-8; and it is printed alike after it was read again.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/<>&'\x00\x1f\x7f\b\f\n\r\t", "\u2028\u2029\ufffd", "ä\U0001f600", "\xff\xc3", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := appendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if again := appendString(nil, back); !bytes.Equal(got, again) {
			t.Errorf("%q is %q when read again", got, again)
		}
		valid := strings.ToValidUTF8(s, "")
		want := strings.TrimSuffix(standard(t, []any{valid}), "\n")
		if got := appendString(nil, valid); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
