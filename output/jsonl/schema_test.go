// SPDX-License-Identifier: Apache-2.0

// schema_test.go holds docs/json.schema.json against what is written: of real
// traces, and of objects with every field there is.

package jsonl

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pathtrace/pathtrace/tracer/model/recorded"
)

// schema compiles the schema, changed by change if that is not nil.
func schema(t *testing.T, change func(map[string]any)) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/json.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		descend(doc, change)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("json.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("json.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func descend(tree any, change func(map[string]any)) {
	switch node := tree.(type) {
	case map[string]any:
		change(node)
		for _, child := range node {
			descend(child, change)
		}
	case []any:
		for _, child := range node {
			descend(child, change)
		}
	}
}

// strict refuses fields that the schema does not name.
func strict(node map[string]any) {
	if _, ok := node["properties"]; ok && node["type"] == "object" {
		node["additionalProperties"] = false
	}
}

// loose is strict, and takes any text for a word from a list.
func loose(node map[string]any) {
	strict(node)
	if kind, ok := node["type"].(string); ok && kind == "string" {
		for _, limit := range []string{"enum", "pattern", "anyOf", "format"} {
			delete(node, limit)
		}
	}
}

func validate(t *testing.T, s *jsonschema.Schema, line string) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// What pathtrace printed on testenv's nodes (recorded by package cause's tests).
func TestSchemaOfRealTraces(t *testing.T) {
	s := schema(t, strict)
	for name, trace := range recorded.Traces(t, "../../tracer/cause/testdata", 1) {
		for line := range strings.Lines(string(trace)) {
			if err := validate(t, s, line); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, line)
			}
		}
	}
}

// The schema knows every field, and no field that there is not.
func TestSchemaKnowsEveryField(t *testing.T) {
	var out bytes.Buffer
	send(t, New(&out), everything())
	written := map[string]bool{}
	s := schema(t, loose)
	for line := range strings.Lines(out.String()) {
		if err := validate(t, s, line); err != nil {
			t.Errorf("%v\n%s", err, line)
		}
		var tree any
		if err := json.Unmarshal([]byte(line), &tree); err != nil {
			t.Fatal(err)
		}
		walk(tree, func(name string) { written[name] = true })
	}
	schema(t, func(node map[string]any) {
		fields, ok := node["properties"].(map[string]any)
		if !ok || node["type"] != "object" {
			return
		}
		for name := range fields {
			if !written[name] {
				t.Errorf("the schema has a field %s that no object has", name)
			}
		}
	})
}

func TestSchemaRefuses(t *testing.T) {
	const packet = `{"type":"packet","id":1,"direction":"forward","time":"2026-11-21T12:00:00.123456789Z","proto":"tcp","src":"10.0.0.1","dst":"fd00::1","length":60,"outcome":"dropped","hops":[]}`
	s := schema(t, nil)
	for name, line := range map[string]string{
		"packet":               packet,
		"with a later field":   strings.Replace(packet, `"id":1`, `"id":1,"colour":"red"`, 1),
		"node":                 `{"type":"node","time":"2026-11-21T12:00:00Z","what":"link-down","object":"cali1","by":{"pid":7,"comm":"ip"},"text":"it went down"}`,
		"finding, all of it":   `{"type":"finding","code":"mtu","confidence":"likely","direction":"return","packets":[1,2],"summary":"s","evidence":["e"],"fix":["f"]}`,
		"finding, what it has": `{"type":"finding","code":"mtu","confidence":"certain","summary":"s","evidence":[]}`,
	} {
		if err := validate(t, s, line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string][2]string{
		"no type":         {`"type":"packet",`, ``},
		"another type":    {`"packet"`, `"weather"`},
		"no id":           {`"id":1,`, ``},
		"id 0":            {`"id":1`, `"id":0`},
		"id as text":      {`"id":1`, `"id":"1"`},
		"direction":       {`"forward"`, `"sideways"`},
		"time":            {`2026-11-21T12`, `noon `},
		"address":         {`10.0.0.1`, `10.0.0`},
		"outcome":         {`"dropped"`, `"lost"`},
		"hops null":       {`[]`, `null`},
		"hop of no stage": {`[]`, `[{"at_ns":1}]`},
		"stage":           {`[]`, `[{"at_ns":1,"stage":"limbo"}]`},
		"port":            {`"dst"`, `"sport":65536,"dst"`},
	} {
		if err := validate(t, s, strings.Replace(packet, change[0], change[1], 1)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
