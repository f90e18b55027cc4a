// SPDX-License-Identifier: Apache-2.0

// roundtrip_test.go checks that every object of a trace comes back as it was:
// of the traces recorded from real nodes, and of objects with every field set.

package pcapng

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/output/jsonl"
	"github.com/pathtrace/pathtrace/tracer/model"
	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

// traces are what package cause's tests keep: what pathtrace -o json printed on
// testenv's nodes, broken and healthy.
func traces(t testing.TB) map[string][]byte {
	return recorded.Traces(t, "../../tracer/cause/testdata", 1)
}

// memory is a file in memory.
type memory struct{ data []byte }

func (m *memory) Write(p []byte) (int, error) { m.data = append(m.data, p...); return len(p), nil }

func (m *memory) WriteAt(p []byte, at int64) (int, error) { return copy(m.data[at:], p), nil }

// written gives the file of a trace in JSON Lines form.
func written(t testing.TB, lines []byte, opt Options) []byte {
	t.Helper()
	var file memory
	if opt.Late == nil {
		opt.Late = &file
	}
	if err := model.ReadJSON(bytes.NewReader(lines), New(&file, opt)); err != nil {
		t.Fatal(err)
	}
	return file.data
}

// readBack gives a file's trace in JSON Lines form.
func readBack(file []byte) (string, error) {
	var out bytes.Buffer
	err := Read(bytes.NewReader(file), jsonl.New(&out))
	return out.String(), err
}

func TestRecordedTracesComeBack(t *testing.T) {
	for name, lines := range traces(t) {
		for _, opt := range []Options{{}, {All: true, SnapLen: 96}} {
			got, err := readBack(written(t, lines, opt))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got != string(lines) {
				t.Errorf("%s: what came back is not what was written:\n got %.2000s\nwant %.2000s", name, got, lines)
			}
		}
	}
}

// A file of 100,000 packet blocks is read back equal.
func TestHundredThousandBlocks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	var packets collect
	for _, lines := range traces(t) {
		if err := model.ReadJSON(bytes.NewReader(lines), &packets); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "x.pcapng")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, got := sha256.New(), sha256.New()
	all := sinks{jsonl.New(want), New(f, Options{All: true, Late: f})}
	blocks := 0
	send(t, all, made())
	for id := uint64(1); blocks < 100_000; id++ {
		p := *packets.packets[id%uint64(len(packets.packets))]
		p.ID = id
		blocks += len(p.Hops)
		send(t, all, &p)
	}
	send(t, all, &model.Finding{Code: "mtu", Packets: []uint64{1, 2, 3}}, &model.Summary{})
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := Read(f, jsonl.New(got)); err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d blocks came back different: %v", blocks, err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
