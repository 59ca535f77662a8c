// Package layers reads YAML files that lie over one another, remembers of every value
// which file and line said it, and checks the whole against a JSON Schema.
//
// Layer: one file. Value: what is said at one place, with its origin. Fault: what is
// wrong at one place, in words.
package layers

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Origin is where a value was said. The zero value is a default, which no file says.
type Origin struct {
	File string
	Line int    // from 1
	Why  string // of a default that was worked out: from what
}

func (o Origin) String() string {
	switch {
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case o.Why != "":
		return "default: " + o.Why
	}
	return "default"
}

// Value is a map, a list, a scalar, or nothing. Values are not changed once they are
// made, so several may share their parts.
type Value struct {
	Origin
	Fields map[string]*Value // of a map; not nil, if it is one
	List   []*Value          // of a list; not nil, if it is one
	Scalar any               // string, bool, int64, uint64 or float64
}

// null is what YAML says by null, ~, or an empty value.
func (v *Value) null() bool { return v.Fields == nil && v.List == nil && v.Scalar == nil }

// Over lays a value over another one: maps are merged, field by field; anything else
// replaces what is below, lists as a whole; and a field that is null is removed.
// Either may be nil. In what is returned no field of a map is null, but those of
// maps in lists, which are replaced and never merged.
func Over(lower, upper *Value) *Value {
	if upper == nil {
		upper = &Value{Fields: map[string]*Value{}}
	}
	if upper.Fields == nil {
		return upper
	}
	merged := &Value{Origin: upper.Origin, Fields: map[string]*Value{}}
	if lower != nil && lower.Fields != nil {
		maps.Copy(merged.Fields, lower.Fields)
	}
	for name, value := range upper.Fields {
		if value.null() {
			delete(merged.Fields, name)
			continue
		}
		merged.Fields[name] = Over(merged.Fields[name], value)
	}
	return merged
}

// Plain is the value as encoding/json knows it: map[string]any, []any, or a scalar.
func (v *Value) Plain() any {
	switch {
	case v.Fields != nil:
		fields := make(map[string]any, len(v.Fields))
		for name, f := range v.Fields {
			fields[name] = f.Plain()
		}
		return fields
	case v.List != nil:
		list := make([]any, len(v.List))
		for i, item := range v.List {
			list[i] = item.Plain()
		}
		return list
	}
	return v.Scalar
}

// At is the value at a path of field names and list indexes, or the last on the way
// to it that is there.
func (v *Value) At(path ...string) *Value {
	for _, step := range path {
		next := v.Fields[step]
		if i, err := strconv.Atoi(step); err == nil && v.Fields == nil && i >= 0 && i < len(v.List) {
			next = v.List[i]
		}
		if next == nil {
			return v
		}
		v = next
	}
	return v
}

// With is the map with a field in it that it may have had before.
func (v *Value) With(name string, field *Value) *Value {
	fields := maps.Clone(v.Fields)
	fields[name] = field
	return &Value{Origin: v.Origin, Fields: fields}
}

// Without is the map without a field.
func (v *Value) Without(name string) *Value {
	fields := maps.Clone(v.Fields)
	delete(fields, name)
	return &Value{Origin: v.Origin, Fields: fields}
}

// names are a map's fields in the order in which they are shown.
func (v *Value) names() []string { return slices.Sorted(maps.Keys(v.Fields)) }

// Bare is the value without the fields that are null, in maps of lists too.
func (v *Value) Bare() *Value {
	bare := &Value{Origin: v.Origin, Scalar: v.Scalar}
	if v.Fields != nil {
		bare.Fields = make(map[string]*Value, len(v.Fields))
	}
	for name, field := range v.Fields {
		if !field.null() {
			bare.Fields[name] = field.Bare()
		}
	}
	if v.List != nil {
		bare.List = make([]*Value, len(v.List))
	}
	for i, item := range v.List {
		bare.List[i] = item.Bare()
	}
	return bare
}
