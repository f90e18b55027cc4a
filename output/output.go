// SPDX-License-Identifier: Apache-2.0

// Package output turns a trace into what leaves the program. Every format is a
// model.Sink in a package of its own below this one and a row in the table of
// formats; it knows the model and nothing of the kernel. What works on any
// format stands here: choosing one, sending a trace to several at once,
// leaving out what fared well.
package output

import (
	"fmt"
	"io"
	"strings"

	"github.com/pathtrace/pathtrace/output/jsonl"
	"github.com/pathtrace/pathtrace/output/text"
	"github.com/pathtrace/pathtrace/tracer/model"
)

// Settings is what a format may want to know of where it is written to.
type Settings struct {
	Color bool // the reader understands ANSI colours
	Width int  // columns of the reader's terminal; 0: not a terminal
}

// Format is one way to write a trace to a stream.
type Format struct {
	Name string
	New  func(io.Writer, Settings) model.Sink
}

// Formats lists the formats in the order that help shows them; the first one
// is the default.
func Formats() []Format {
	return []Format{
		{"text", func(w io.Writer, s Settings) model.Sink {
			return text.New(w, text.Options{Color: s.Color, Width: s.Width})
		}},
		{"json", func(w io.Writer, _ Settings) model.Sink { return jsonl.New(w) }},
		{"wide", func(w io.Writer, s Settings) model.Sink {
			return text.New(w, text.Options{Color: s.Color, Width: s.Width, Wide: true})
		}},
	}
}

// Lookup finds a format by name; the error for an unknown one lists the names.
func Lookup(name string) (Format, error) {
	var names []string
	for _, f := range Formats() {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("unknown output format %q: use one of %s", name, strings.Join(names, ", "))
}
