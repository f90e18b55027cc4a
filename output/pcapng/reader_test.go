// SPDX-License-Identifier: Apache-2.0

// reader_test.go gives Read files that are cut off, damaged, or not ours.

package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/model"
)

// small is a short file with everything in it, and its objects.
func small(t testing.TB) ([]byte, []any) {
	t.Helper()
	objects := []any{
		made(), diedWith(1, &model.Frame{LinkType: 1, Bytes: bytesOf(t, macs+"0800"+syn4), Length: 74}),
		&model.NodeEvent{Time: noon, What: "link-down", Object: "cali1", By: &model.By{PID: 7, Comm: "ip"}},
		&model.Finding{Code: "mtu", Confidence: "likely", Packets: []uint64{1}, Summary: "too long", Evidence: []string{"a"}},
		&model.Summary{Forward: model.Counts{Seen: 1, Dropped: 1}, MissedHooks: []model.MissedHook{}},
	}
	return file(t, Options{All: true}, objects...), objects
}

// A file cut off at any byte gives the objects before the cut, and says where
// it ends.
func TestCutOffAnywhere(t *testing.T) {
	data, objects := small(t)
	whole := lines(t, objects...)
	for at := range len(data) {
		got, err := readBack(data[:at])
		if !strings.HasPrefix(whole, got) || got != "" && !strings.HasSuffix(got, "\n") {
			t.Fatalf("cut at %d: %q is no beginning of the trace", at, got)
		}
		var cut *CutOffError
		var foreign *ForeignError
		switch {
		case err == nil:
			t.Errorf("cut at %d: no error", at)
		case errors.As(err, &cut) && cut.Offset != int64(at):
			t.Errorf("cut at %d: told %d", at, cut.Offset)
		case errors.As(err, &foreign) && got == "", cut != nil:
		default:
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	if got, err := readBack(data); err != nil || got != whole {
		t.Errorf("whole: %v: %s", err, got)
	}
}

// Whatever byte is wrong, reading ends, and no object is told twice. (A wrong
// byte in an object's own text, or in the magic before it, is not found.)
func TestDamagedAnywhere(t *testing.T) {
	data, objects := small(t)
	for at := range data {
		for _, with := range []byte{0xff, data[at] ^ 0x10} {
			damaged := bytes.Clone(data)
			damaged[at] = with
			if got, _ := readBack(damaged); strings.Count(got, "\n") > len(objects) {
				t.Fatalf("byte %d is %#x: %s", at, with, got)
			}
		}
	}
}

// big turns a file's block structure and our own fields to big-endian order, as
// another machine would have written it.
func big(t *testing.T, data []byte) []byte {
	t.Helper()
	out := bytes.Clone(data)
	swap := func(at, n int) {
		for i := range n / 2 {
			out[at+i], out[at+n-1-i] = out[at+n-1-i], out[at+i]
		}
	}
	for at := 0; at < len(data); {
		kind, length := binary.LittleEndian.Uint32(data[at:]), int(binary.LittleEndian.Uint32(data[at+4:]))
		swap(at, 4)
		swap(at+4, 4)
		swap(at+length-4, 4)
		switch kind {
		case blockSection:
			swap(at+8, 4)
			swap(at+12, 2)
			swap(at+14, 2)
			for o := at + 24; ; {
				code, n := binary.LittleEndian.Uint16(data[o:]), int(binary.LittleEndian.Uint16(data[o+2:]))
				swap(o, 2)
				swap(o+2, 2)
				if code == optEnd {
					break
				}
				o += 4 + n + pad(n)
			}
		case blockObject:
			swap(at+8+len(objectMagic)+1, 2)
			swap(at+8+len(objectMagic)+3, 4)
		}
		at += length
	}
	return out
}

func TestBigEndian(t *testing.T) {
	data, objects := small(t)
	got, err := readBack(big(t, data))
	if err != nil || got != lines(t, objects...) {
		t.Errorf("%v: %s", err, got)
	}
}

// An object too long for one block comes in several.
func TestLongObject(t *testing.T) {
	p := diedWith(1, nil)
	p.Drop.Rule.Text = strings.Repeat("0123456789", objectChunk/4)
	objects := []any{made(), p, &model.Summary{MissedHooks: []model.MissedHook{}}}
	data := file(t, Options{}, objects...)
	if n := bytes.Count(data, []byte(objectMagic+"\x01")); n != 5 {
		t.Errorf("%d blocks for 3 objects of which one is 2.5 blocks long", n)
	}
	if got, err := readBack(data); err != nil || got != lines(t, objects...) {
		t.Errorf("came back different: %v", err)
	}
}

func TestRefused(t *testing.T) {
	data, _ := small(t)
	section := int(binary.LittleEndian.Uint32(data[4:]))
	change := func(at int, with ...byte) []byte {
		out := bytes.Clone(data)
		copy(out[at:], with)
		return out
	}
	object := bytes.Index(data, []byte(objectMagic+"\x01"))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":               {nil, "this file is empty or no pcapng file"},
		"text":                {[]byte("root:x:0:0\n"), "this is no pcapng file: read wants what -w wrote"},
		"JSON":                {[]byte(`{"type":"start"}`), "this is no pcapng file but looks like the output of -o json: read wants what -w wrote"},
		"pcap":                {[]byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00"), "this is a pcap file: it holds packets and no trace; open it with wireshark or tshark"},
		"gzip":                {[]byte("\x1f\x8b\x08\x00"), "this file is compressed: gunzip it first, as in gunzip -c FILE | pathtrace read -"},
		"no magic":            {change(8, 1, 2, 3, 4), "byte 0: a section without byte-order magic: this is no pcapng file"},
		"version 2":           {change(12, 2), "byte 0: section: version 2 of the format: this version reads 1"},
		"length 13":           {change(section+4, 13, 0, 0, 0), fmt.Sprintf("byte %d: block of type 0x1: its length, 13 bytes, cannot be", section)},
		"length 8":            {change(section+4, 8, 0, 0, 0), fmt.Sprintf("byte %d: block of type 0x1: its length, 8 bytes, cannot be", section)},
		"length of gigabytes": {change(section+4, 0, 0, 0, 0xff), fmt.Sprintf("cut off at byte %d, within a block: what was written there is missing", len(data))},
		"newer objects":       {change(object+len(objectMagic), 9), fmt.Sprintf("byte %d: object: form 9, and this version of pathtrace knows form 1: read it with a newer one", object-8)},
		"no JSON":             {change(object+objectHead, '}'), fmt.Sprintf("byte %d: invalid character '}' looking for beginning of value", object-8)},
		"only the section":    {data[:section], `this file, written by "pathtrace 1.2.3", holds no trace: open it with wireshark or tshark`},
		"twice":               {append(bytes.Clone(data), data...), fmt.Sprintf("byte %d: a second trace begins: a file is read to the end of the first one", len(data)+object-8)},
	} {
		_, err := readBack(c.data)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

// Objects do not stand where a trace has none.
func TestOrder(t *testing.T) {
	_, objects := small(t)
	var b builder
	o := newObjects(&b)
	b.open(blockSection)
	b.u32(byteOrderMagic)
	b.u32(versionMajor)
	b.u64(0)
	b.close()
	send(t, o, objects[1])
	if got, err := readBack(b.buf); got != "" || !errors.Is(err, errOrder) {
		t.Errorf("%v, %q", err, got)
	}
}

// What wireshark's tools make of our file has lost the trace.
func TestRewrittenByOthers(t *testing.T) {
	data, _ := small(t)
	out := filepath.Join(t.TempDir(), "out")
	tool(t, data, "editcap", "FILE", out)
	_, err := readBack([]byte(readFile(t, out)))
	var foreign *ForeignError
	if !errors.As(err, &foreign) || !strings.Contains(err.Error(), "holds no trace: open it with wireshark or tshark") {
		t.Errorf("%v", err)
	}
}
