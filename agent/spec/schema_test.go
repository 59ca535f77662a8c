package spec_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

var update = flag.Bool("update", false, "write the schema anew")

// object is a part of a schema.
type object = map[string]any

// extraction takes what a Spec needs out of the API's description.
//
// Source: OpenAPI 3.1.0, "Schema Object": it is one of JSON Schema 2020-12.
type extraction struct {
	components, defs object
}

// whole copies a schema, and takes along those that it refers to.
func (e extraction) whole(v any) any {
	switch v := v.(type) {
	case object:
		copied := object{}
		for name, part := range v {
			copied[name] = e.whole(part)
		}
		if ref, ok := v["$ref"].(string); ok {
			copied["$ref"] = e.take(strings.TrimPrefix(ref, "#/components/schemas/"))
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, part := range v {
			copied[i] = e.whole(part)
		}
		return copied
	}
	return v
}

func (e extraction) take(name string) string {
	if e.defs[name] == nil {
		e.defs[name] = object{} // it may refer to itself
		e.defs[name] = e.whole(e.components[name])
	}
	return "#/$defs/" + name
}

// part makes a schema that requires no field, but in lists.
func (e extraction) part(name string) object {
	part := maps.Clone(e.defs[name].(object))
	delete(part, "required")
	properties := object{}
	for field, p := range part["properties"].(object) {
		property := p.(object)
		ref, _ := property["$ref"].(string)
		if to := strings.TrimPrefix(ref, "#/$defs/"); ref != "" && e.defs[to].(object)["type"] == "object" {
			property = maps.Clone(property)
			property["$ref"] = "#/$defs/" + to + "Part"
			e.defs[to+"Part"] = e.part(to)
		}
		properties[field] = property
	}
	part["properties"] = properties
	return part
}

func extract(t *testing.T) []byte {
	t.Helper()
	var description struct {
		Components struct{ Schemas object }
	}
	if err := yaml.Load(api.Description, &description); err != nil {
		t.Fatal(err)
	}
	e := extraction{description.Components.Schemas, object{}}
	document := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "what is asked for of a migration",
		"$ref":    e.take("Spec"),
		"$defs":   e.defs,
	}
	e.take("ID")
	e.defs["SpecPart"] = e.part("Spec")
	migration := e.part("Spec")
	migration["properties"].(object)["id"] = object{"$ref": "#/$defs/ID", "description": "of the migration; made up if absent"}
	e.defs["MigrationPart"] = migration
	data, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func TestTheSchemaIsTheDescriptions(t *testing.T) {
	want := extract(t)
	if *update {
		if err := os.WriteFile("spec.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("spec.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("spec.schema.json is not what openapi.yaml says: run make generate")
	}
}

// examples are all objects under a name that the description has anywhere.
func examples(v any, name string) (found []object) {
	switch v := v.(type) {
	case object:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if example, ok := v[key].(object); ok && key == name && example["source"] != nil {
				found = append(found, example)
			}
			found = append(found, examples(v[key], name)...)
		}
	case []any:
		for _, part := range v {
			found = append(found, examples(part, name)...)
		}
	}
	return found
}

func TestEveryExampleOfASpecIsAccepted(t *testing.T) {
	var description struct{ Paths object }
	if err := yaml.Load(api.Description, &description); err != nil {
		t.Fatal(err)
	}
	found := examples(description.Paths, "spec")
	if len(found) < 4 {
		t.Fatalf("found %d examples", len(found))
	}
	for _, example := range found {
		text, err := json.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		v, err := layers.Read("example", text)
		if err != nil {
			t.Fatal(err)
		}
		s, faults := spec.Read(v)
		if err := faults.Err(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if spec.SourceName(s.Source) == "" || s.Target.Storage == "" && !spec.Looks(s) {
			t.Errorf("%s is read as %+v", text, s)
		}
	}
}
