// SPDX-License-Identifier: Apache-2.0

// json.go holds what the JSON form of a trace needs beyond struct tags: the
// names of the object types, addresses printed as people write them, and
// reading a trace back, so that a saved one can be shown again or checked.

package model

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Values of the "type" field, one per object of a trace.
const (
	TypeStart   = "start"
	TypePacket  = "packet"
	TypeNode    = "node"
	TypeFinding = "finding"
	TypeSummary = "summary"
)

// Prefixes is a list of address ranges. In JSON and in print a range of one
// address is written as that address: 10.0.0.1, not 10.0.0.1/32.
type Prefixes []netip.Prefix

// Strings gives every range as people write it.
func (p Prefixes) Strings() []string {
	out := make([]string, len(p))
	for i, prefix := range p {
		if prefix.IsSingleIP() {
			out[i] = prefix.Addr().String()
		} else {
			out[i] = prefix.String()
		}
	}
	return out
}

// String joins the ranges with commas.
func (p Prefixes) String() string { return strings.Join(p.Strings(), ", ") }

// MarshalJSON writes a list of strings, single addresses without a length.
func (p Prefixes) MarshalJSON() ([]byte, error) { return json.Marshal(p.Strings()) }

// UnmarshalJSON reads a list of addresses and prefixes. A malformed member is
// an error that names it.
func (p *Prefixes) UnmarshalJSON(data []byte) error {
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	out := make(Prefixes, 0, len(list))
	for _, text := range list {
		prefix, err := parsePrefix(text)
		if err != nil {
			return fmt.Errorf("address %q: %w", text, err)
		}
		out = append(out, prefix)
	}
	*p = out
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// decoders says how each object type is read and which sink method takes it.
var decoders = map[string]func([]byte, Sink) error{
	TypeStart:   func(b []byte, s Sink) error { return decode(b, s.Start) },
	TypePacket:  func(b []byte, s Sink) error { return decode(b, s.Packet) },
	TypeNode:    func(b []byte, s Sink) error { return decode(b, s.Node) },
	TypeFinding: func(b []byte, s Sink) error { return decode(b, s.Finding) },
	TypeSummary: func(b []byte, s Sink) error { return decode(b, s.Summary) },
}

func decode[T any](line []byte, to func(*T) error) error {
	object := new(T)
	if err := json.Unmarshal(line, object); err != nil {
		return err
	}
	return to(object)
}

// ReadJSON reads a trace in JSON Lines form and hands its objects to sink in
// order. Objects and fields of a type that this version does not know are
// skipped, as the interface promises. Errors carry the number of the line.
func ReadJSON(r io.Reader, sink Sink) error {
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := ReadObject(line, sink); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
		if end {
			return nil
		}
	}
}

// ReadObject reads one object in JSON form and hands it to sink, unless this
// version does not know its type. Nothing of line is kept.
func ReadObject(line []byte, sink Sink) error {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return err
	}
	if head.Type == "" {
		return errors.New("object has no type")
	}
	read, known := decoders[head.Type]
	if !known {
		return nil
	}
	return read(line, sink)
}
