// SPDX-License-Identifier: Apache-2.0

package tracer

// The rooms of the tracer: who may import whom, and how large a file and a type
// may grow before it has to be taken apart.

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module     = "github.com/pathtrace/pathtrace/"
	mostLines  = 500
	mostFields = 15
)

// mayImport says which packages of this module each may import. They are in order:
// none imports one that stands below it.
var mayImport = []struct{ pkg, imports string }{
	{"bpf", ""},
	{"tracer/model", ""},
	{"tracer/model/recorded", ""},
	{"tracer/probe", ""},
	{"tracer/kernel", ""},
	{"tracer/nfnetlink", ""},
	{"tracer/recall", ""},
	{"tracer/node", "tracer/kernel tracer/nfnetlink"},
	{"tracer/node/nodetest", ""},
	{"tracer/routing", "tracer/node"},

	{"tracer/endpoint/spelling", ""},
	{"tracer/endpoint/cni", ""},
	{"tracer/endpoint/cri", ""},
	{"tracer/endpoint/cri/critest", ""},
	{"tracer/endpoint/kube", ""},
	{"tracer/endpoint/kube/kubetest", "tracer/endpoint/kube"},
	{"tracer/endpoint", "tracer/endpoint/cni tracer/endpoint/cri tracer/endpoint/kube tracer/endpoint/spelling tracer/model tracer/node tracer/recall"},

	{"tracer/ruleset/packet", ""},
	{"tracer/ruleset/xt", "tracer/ruleset/packet"},
	{"tracer/ruleset/ipset", "tracer/ruleset/packet"},
	{"tracer/ruleset/walk", "tracer/ruleset/packet"},
	{"tracer/ruleset/legacy", "tracer/nfnetlink tracer/ruleset/ipset tracer/ruleset/packet tracer/ruleset/walk tracer/ruleset/xt"},
	{"tracer/ruleset/nft", "tracer/nfnetlink tracer/ruleset/packet tracer/ruleset/walk tracer/ruleset/xt"},
	{"tracer/ruleset/iptnft", "tracer/ruleset/nft tracer/ruleset/xt"},
	{"tracer/ruleset/meaning", "tracer/model"},
	{"tracer/ruleset/tell", "tracer/model tracer/ruleset/iptnft tracer/ruleset/legacy tracer/ruleset/nft tracer/ruleset/xt"},
	{"tracer/ruleset/infer", "tracer/model tracer/node tracer/recall tracer/ruleset/legacy tracer/ruleset/nft tracer/ruleset/packet tracer/ruleset/tell tracer/ruleset/walk"},

	{"tracer/watch", "tracer/model tracer/nfnetlink tracer/node"},
	{"tracer/program", ""},
	{"tracer/plane", "tracer/model tracer/node tracer/program"},
	{"tracer/cause", "tracer/model tracer/node tracer/program tracer/recall tracer/routing tracer/ruleset/ipset tracer/ruleset/meaning tracer/ruleset/packet tracer/watch"},

	{"tracer/journey", "bpf tracer/model tracer/nfnetlink"},
	{"tracer/rulebook", "bpf tracer/journey tracer/model tracer/nfnetlink tracer/node tracer/recall tracer/ruleset/infer tracer/ruleset/ipset tracer/ruleset/legacy tracer/ruleset/meaning tracer/ruleset/nft tracer/ruleset/packet tracer/ruleset/tell tracer/ruleset/xt"},
	{"tracer/attach", "bpf tracer/endpoint tracer/journey tracer/kernel tracer/model tracer/node"},
	{"tracer", "bpf tracer/attach tracer/cause tracer/endpoint tracer/journey tracer/kernel tracer/model tracer/node tracer/plane tracer/recall tracer/rulebook tracer/watch"},

	{"output/jsonl", "tracer/model"},
	{"output/text", "tracer/model"},
	{"output/pcapng", "output/jsonl output/text tracer/model"},
	{"output/report", "output/text tracer/model"},
	{"output", "output/jsonl output/text tracer/model"},
}

// largeRecords are types of many fields that are no more than that.
var largeRecords = map[string]string{
	"tracer/model.Hop":             "a hop as JSON has it: each kind fills some",
	"tracer/model.Drop":            "a death as JSON has it",
	"tracer/model.Packet":          "a packet as JSON has it",
	"tracer/model.NodeEvent":       "a change as JSON has it: each kind fills some",
	"tracer/node.Link":             "an interface's attributes as the kernel tells them",
	"tracer/node.PolicyRule":       "all that a rule of policy routing can ask",
	"tracer/ruleset/packet.Packet": "all that a rule can ask of a packet",
	"tracer/ruleset/nft.Set":       "a set's attributes as the kernel tells them",
	"tracer/ruleset/nft.node":      "an expression in print: each kind fills some",
}

// source is a file of the module that is no test.
type source struct {
	pkg, name string
	lines     int
	tree      *ast.File
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	files := token.NewFileSet()
	for _, top := range []string{"bpf", "tracer", "output"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			tree, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			all = append(all, source{pkg: name[:strings.LastIndex(name, "/")], name: name, lines: files.File(tree.FileStart).LineCount(), tree: tree})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// Imports go one way.
func TestImportsOfRooms(t *testing.T) {
	may := make(map[string][]string)
	var above []string
	for _, row := range mayImport {
		may[row.pkg] = strings.Fields(row.imports)
		for _, p := range may[row.pkg] {
			if !slices.Contains(above, p) {
				t.Errorf("%s may import %s, which does not stand above it", row.pkg, p)
			}
		}
		above = append(above, row.pkg)
	}
	used := make(map[string][]string)
	for _, s := range sources(t) {
		allowed, known := may[s.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table of imports", s.name, s.pkg)
			continue
		}
		for _, i := range s.tree.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			path, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			used[s.pkg] = append(used[s.pkg], path)
			if !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", s.name, path)
			}
		}
	}
	for pkg, allowed := range may {
		for _, p := range allowed {
			if !slices.Contains(used[pkg], p) {
				t.Errorf("%s does not import %s: take it out of the table", pkg, p)
			}
		}
	}
}

// What is larger is two things.
func TestSizesInRooms(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if n := bytes.Count(text, []byte("\n")); n > mostLines {
			t.Errorf("tracer/%s has %d lines, more than %d", path, n, mostLines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.pkg, "tracer") {
			continue
		}
		if s.lines > mostLines {
			t.Errorf("%s has %d lines, more than %d", s.name, s.lines, mostLines)
		}
		ast.Inspect(s.tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			body, ok := spec.Type.(*ast.StructType)
			name := s.pkg + "." + spec.Name.Name
			if ok && body.Fields.NumFields() > mostFields && largeRecords[name] == "" {
				t.Errorf("%s has %d fields, more than %d, and is not in the list of records", name, body.Fields.NumFields(), mostFields)
			}
			return true
		})
	}
}
