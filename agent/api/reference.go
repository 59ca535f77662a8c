package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

//go:embed reference.html.tmpl
var referencePage string

//go:embed reference.css
var referenceStyle []byte

// operation is one, as the reference shows it.
type operation struct {
	ID, Method, Path, Tag, Role, Summary, Text string
	Parameters                                 []parameter
	Bodies, Answers                            []body
}

type parameter struct{ Name, In, Shape, Text string }

// body is what is sent or answered, with an example of it.
type body struct{ Title, Shape, Example string }

// reference is the API's description as a page that needs nothing else.
func reference(doc *openapi3.T) ([]byte, error) {
	page, err := template.New("reference").Parse(referencePage)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = page.Execute(&b, map[string]any{"Info": doc.Info, "Base": base, "Operations": operations(doc), "Schemas": schemas(doc)})
	return b.Bytes(), err
}

func operations(doc *openapi3.T) (list []operation) {
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			role, _ := o.Extensions["x-role"].(string)
			v := operation{ID: o.OperationID, Method: method, Path: path, Role: role, Summary: o.Summary, Text: o.Description}
			if len(o.Tags) > 0 {
				v.Tag = o.Tags[0]
			}
			for _, p := range slices.Concat(item.Parameters, o.Parameters) {
				v.Parameters = append(v.Parameters, parameter{p.Value.Name, p.Value.In, shape(p.Value.Schema), p.Value.Description})
			}
			if o.RequestBody != nil {
				v.Bodies = bodies("", o.RequestBody.Value.Content)
			}
			for _, status := range slices.Sorted(mapKeys(o.Responses.Map())) {
				v.Answers = append(v.Answers, bodies(status, o.Responses.Value(status).Value.Content)...)
			}
			list = append(list, v)
		}
	}
	order := map[string]int{}
	for i, t := range doc.Tags {
		order[t.Name] = i
	}
	slices.SortFunc(list, func(a, b operation) int {
		if d := order[a.Tag] - order[b.Tag]; d != 0 {
			return d
		}
		return strings.Compare(a.Path+a.Method, b.Path+b.Method)
	})
	return list
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func bodies(title string, content openapi3.Content) (list []body) {
	for kind, media := range content {
		example := ""
		for _, name := range slices.Sorted(mapKeys(media.Examples)) {
			text, err := json.MarshalIndent(media.Examples[name].Value.Value, "", "  ")
			if err == nil {
				example += string(text) + "\n"
			}
		}
		list = append(list, body{strings.TrimSpace(title + " " + kind), shape(media.Schema), example})
	}
	slices.SortFunc(list, func(a, b body) int { return strings.Compare(a.Title, b.Title) })
	return list
}

// field is one of a schema's.
type field struct{ Name, Shape, Text string }

type schema struct {
	Name, Text string
	Fields     []field
}

func schemas(doc *openapi3.T) (list []schema) {
	for _, name := range slices.Sorted(mapKeys(doc.Components.Schemas)) {
		v := doc.Components.Schemas[name].Value
		s := schema{Name: name, Text: strings.TrimSpace(v.Description + " " + bounds(v))}
		for _, f := range slices.Sorted(mapKeys(v.Properties)) {
			p := v.Properties[f]
			needed := ""
			if slices.Contains(v.Required, f) {
				needed = ", required"
			}
			s.Fields = append(s.Fields, field{f, shape(p) + needed, p.Value.Description})
		}
		list = append(list, s)
	}
	return list
}

// shape is a schema in a few words.
func shape(s *openapi3.SchemaRef) string {
	switch {
	case s == nil || s.Value == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	case s.Value.Type.Is("array"):
		return "list of " + shape(s.Value.Items)
	}
	kind := "anything"
	if s.Value.Type != nil {
		kind = strings.Join(s.Value.Type.Slice(), " or ")
	}
	return strings.TrimSpace(kind + " " + bounds(s.Value))
}

// bounds are what a value must keep to.
func bounds(s *openapi3.Schema) string {
	var all []string
	if len(s.Enum) > 0 {
		all = append(all, fmt.Sprintf("one of %v", s.Enum))
	}
	if s.Pattern != "" {
		all = append(all, "like "+s.Pattern)
	}
	if s.Min != nil {
		all = append(all, fmt.Sprintf("at least %v", *s.Min))
	}
	if s.Max != nil {
		all = append(all, fmt.Sprintf("at most %v", *s.Max))
	}
	if s.Default != nil {
		all = append(all, fmt.Sprintf("%v unless told", s.Default))
	}
	return strings.Join(all, ", ")
}
