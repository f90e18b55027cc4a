// SPDX-License-Identifier: Apache-2.0

// encode.go writes objects as encoding/json does, to the byte, in a fraction of
// its time: what a type looks like is found out once, and nothing is copied. A
// trace of everything prints some ten kilobytes for each packet.
//
// One thing is different: what is no UTF-8 becomes the character U+FFFD itself
// instead of its escape, so that it is printed alike after it was read again.

package jsonl

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// encoder appends a value as JSON.
type encoder func(dst []byte, v reflect.Value) ([]byte, error)

// encoderOf gives the encoder of a type. Its values must be addressable.
func encoderOf(t reflect.Type) encoder {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return appendTime
	case t == reflect.TypeFor[netip.Addr]():
		return appendAddr
	case t.Implements(reflect.TypeFor[json.Marshaler]()):
		return appendAny
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return appendText
	}
	switch t.Kind() {
	case reflect.String:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return appendString(dst, v.String()), nil }
	case reflect.Bool:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendBool(dst, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendInt(dst, v.Int(), 10), nil }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return strconv.AppendUint(dst, v.Uint(), 10), nil }
	case reflect.Pointer:
		return pointerEncoder(encoderOf(t.Elem()))
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return sliceEncoder(encoderOf(t.Elem()))
		}
	case reflect.Struct:
		return structEncoder(t)
	}
	return appendAny
}

// appendAny leaves it to encoding/json.
func appendAny(dst []byte, v reflect.Value) ([]byte, error) {
	text, err := json.Marshal(v.Interface())
	return append(dst, text...), err
}

func appendTime(dst []byte, v reflect.Value) ([]byte, error) {
	dst, err := v.Addr().Interface().(*time.Time).AppendText(append(dst, '"'))
	return append(dst, '"'), err
}

func appendAddr(dst []byte, v reflect.Value) ([]byte, error) {
	dst, err := v.Addr().Interface().(*netip.Addr).AppendText(append(dst, '"'))
	return append(dst, '"'), err
}

func appendText(dst []byte, v reflect.Value) ([]byte, error) {
	text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
	return appendString(dst, string(text)), err
}

func pointerEncoder(to encoder) encoder {
	return func(dst []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return to(dst, v.Elem())
	}
}

func sliceEncoder(each encoder) encoder {
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = each(dst, v.Index(i)); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	}
}

// member is a field of a struct.
type member struct {
	index int
	name  string                   // quoted, with its colon
	omit  func(reflect.Value) bool // nil: never left out
	value encoder
}

func structEncoder(t reflect.Type) encoder {
	var members []member
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if !f.IsExported() || f.Anonymous || name == "" {
			panic(fmt.Sprintf("field %s of %s: only exported fields with a name in JSON are known here", f.Name, t))
		}
		m := member{index: i, name: string(appendString(nil, name)) + ":", value: encoderOf(f.Type)}
		switch options {
		case "omitempty":
			m.omit = isEmpty(f.Type)
		case "omitzero":
			m.omit = reflect.Value.IsZero
		case "":
		default:
			panic(fmt.Sprintf("field %s of %s: option %s is not known here", f.Name, t, options))
		}
		members = append(members, m)
	}
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		dst = append(dst, '{')
		begun := len(dst)
		for i := range members {
			m := &members[i]
			f := v.Field(m.index)
			if m.omit != nil && m.omit(f) {
				continue
			}
			if len(dst) > begun {
				dst = append(dst, ',')
			}
			if dst, err = m.value(append(dst, m.name...), f); err != nil {
				return dst, fmt.Errorf("%s %w", m.name, err)
			}
		}
		return append(dst, '}'), nil
	}
}

// isEmpty says what omitempty leaves out: no text, no members, zero, false, nil;
// never a struct.
func isEmpty(t reflect.Type) func(reflect.Value) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Array:
		return func(v reflect.Value) bool { return v.Len() == 0 }
	case reflect.Struct:
		return nil
	}
	return reflect.Value.IsZero
}

// appendString writes a text in quotes.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size, with := 1, ""
		if c < utf8.RuneSelf {
			with = escape(c)
		} else {
			size, with = special(s[i:])
		}
		if with != "" {
			dst = append(append(dst, s[done:i]...), with...)
			done = i + size
		}
		i += size
	}
	return append(append(dst, s[done:]...), '"')
}

// escape gives what a character below 0x80 is written as that cannot stand for
// itself.
func escape(c byte) string {
	switch c {
	case '"', '\\':
		return `\` + string(rune(c))
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	return fmt.Sprintf(`\u%04x`, c)
}

// special gives the length of the character that s begins with, and what it is
// written as if not as it is: line ends of JavaScript, and what is no UTF-8.
func special(s string) (size int, with string) {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && size == 1:
		return size, "\ufffd"
	case r == '\u2028':
		return size, `\u2028`
	case r == '\u2029':
		return size, `\u2029`
	}
	return size, ""
}
