// SPDX-License-Identifier: Apache-2.0

package nfnetlink

// Attributes survive being put together and taken apart; broken ones are told.

import (
	"strings"
	"testing"
)

func TestAttributesRoundTrip(t *testing.T) {
	b := PutText(Header(2), 1, "filter")
	b = PutUint32(b, 2, 7)
	b = PutUint64(b, 3, 1<<40)
	b = Put(b, 4|0x8000, PutUint32(nil, 1, 9)) // with NLA_F_NESTED
	a, err := Message(b)
	if err != nil {
		t.Fatal(err)
	}
	if a.Text(1) != "filter" {
		t.Errorf("text %q", a.Text(1))
	}
	if v, ok := a.Uint32(2); !ok || v != 7 {
		t.Errorf("number %d, %v", v, ok)
	}
	if v, ok := a.Number(3); !ok || v != 1<<40 {
		t.Errorf("long number %d, %v", v, ok)
	}
	nest, err := a.Nest(4)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := nest.Uint32(1); !ok || v != 9 {
		t.Errorf("nested number %d, %v", v, ok)
	}
	if nest, err := a.Nest(5); nest != nil || err != nil || a.Has(5) {
		t.Errorf("what is not there: %v, %v", nest, err)
	}
}

func TestBrokenAttributes(t *testing.T) {
	tests := []struct {
		name string
		msg  []byte
		want string
	}{
		{"no header", []byte{2, 0}, "shorter than its header"},
		{"longer than the message", append(Header(2), 0xff, 0, 1, 0), "attribute of 255 bytes"},
		{"shorter than itself", append(Header(2), 3, 0, 1, 0), "attribute of 3 bytes"},
		{"a rest", append(PutUint32(Header(2), 1, 7), 1, 2), "2 bytes behind"},
	}
	for _, tt := range tests {
		if _, err := Message(tt.msg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	// The padding behind the last attribute may be missing.
	if a, err := Message(PutText(Header(2), 1, "a")[:4+4+2]); err != nil || a.Text(1) != "a" {
		t.Errorf("without padding: %v, %v", a, err)
	}
}
