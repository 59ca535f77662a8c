package layers

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Schema is a JSON Schema 2020-12 of one document, whose references stay in it. A
// keyword is our own: "x-wanted" says in a few words what a value must be.
type Schema struct {
	document any
	compiled *jsonschema.Schema
}

// CompileSchema reads a schema.
func CompileSchema(data []byte) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const name = "h2k:///schema.json"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(nowhere{})
	if err := c.AddResource(name, document); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(name)
	return &Schema{document, compiled}, err
}

// nowhere loads nothing: a schema is whole.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("the schema refers to %s, outside of itself", url)
}

// Check is every fault that a value has.
func (s *Schema) Check(v *Value) Faults {
	err := s.compiled.Validate(v.Plain())
	wrong, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil // Validate returns no other
	}
	return s.faults(v, wrong)
}

func (s *Schema) faults(v *Value, wrong *jsonschema.ValidationError) (faults Faults) {
	at := s.resolve(fragment(wrong.SchemaURL))
	switch k := wrong.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			path := append(wrong.InstanceLocation[:len(wrong.InstanceLocation):len(wrong.InstanceLocation)], name)
			faults = append(faults, v.Fault(path, "%s", unknown(name, at)))
		}
		return faults
	case *kind.Required:
		for _, name := range k.Missing {
			faults = append(faults, v.Fault(wrong.InstanceLocation, "%s", s.lacks(name, at)))
		}
		return faults
	}
	if len(wrong.Causes) == 0 || choice(wrong.ErrorKind) && at["x-wanted"] != nil {
		return Faults{v.Fault(wrong.InstanceLocation, "%s", words(wrong.ErrorKind, v, wrong.InstanceLocation, at))}
	}
	for _, cause := range wrong.Causes {
		faults = append(faults, s.faults(v, cause)...)
	}
	return faults
}

// choice tells whether a value was to be one of several, each with faults of its own.
func choice(k jsonschema.ErrorKind) bool {
	switch k.(type) {
	case *kind.OneOf, *kind.AnyOf:
		return true
	}
	return false
}

// fragment is where in the document a schema's address points.
func fragment(address string) string {
	_, pointer, _ := strings.Cut(address, "#")
	if plain, err := url.PathUnescape(pointer); err == nil {
		return plain
	}
	return pointer
}

// resolve is the part of the document at a JSON pointer; nil if none is there.
// Source: RFC 6901.
func (s *Schema) resolve(pointer string) map[string]any {
	at := s.document
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch here := at.(type) {
		case map[string]any:
			if token != "" {
				at = here[token]
			}
		case []any:
			if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(here) {
				at = here[i]
			}
		}
	}
	object, _ := at.(map[string]any)
	return object
}

// follow is a schema, or the one that it refers to, with what it says besides on top.
func (s *Schema) follow(schema map[string]any) map[string]any {
	ref, ok := schema["$ref"].(string)
	if !ok {
		return schema
	}
	whole := map[string]any{}
	for k, v := range s.follow(s.resolve(fragment(ref))) {
		whole[k] = v
	}
	for k, v := range schema {
		whole[k] = v
	}
	return whole
}

// Fill is the value with the schema's defaults in the fields that it lacks.
func (s *Schema) Fill(v *Value) *Value {
	document, _ := s.document.(map[string]any)
	return s.fill(v, s.follow(document))
}

func (s *Schema) fill(v *Value, schema map[string]any) *Value {
	if items, ok := schema["items"].(map[string]any); ok && v.List != nil {
		filled := &Value{Origin: v.Origin, List: make([]*Value, len(v.List))}
		for i, item := range v.List {
			filled.List[i] = s.fill(item, s.follow(items))
		}
		return filled
	}
	properties, _ := schema["properties"].(map[string]any)
	if v.Fields == nil {
		return v
	}
	for name, p := range properties {
		property, _ := p.(map[string]any)
		property = s.follow(property)
		field := v.Fields[name]
		if field == nil && property["default"] != nil {
			field = said(property["default"])
		}
		if field != nil {
			v = v.With(name, s.fill(field, property))
		}
	}
	return v
}

// said is a default of the schema's as a value.
func said(plain any) *Value {
	switch p := plain.(type) {
	case map[string]any:
		v := &Value{Fields: map[string]*Value{}}
		for name, field := range p {
			v.Fields[name] = said(field)
		}
		return v
	case []any:
		v := &Value{List: make([]*Value, len(p))}
		for i, item := range p {
			v.List[i] = said(item)
		}
		return v
	case interface{ Int64() (int64, error) }: // json.Number
		n, _ := p.Int64() // a default is whole: a test reads them all
		return &Value{Scalar: n}
	}
	return &Value{Scalar: plain}
}
