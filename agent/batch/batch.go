// Package batch reads files of migrations: what is asked for of all, of each, and of
// some by their names, laid over one another.
//
// Entry: one migration as a file says it. Override: what is laid over the entries
// whose names match.
package batch

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

// ErrBatch is files of migrations that cannot be used. What it wraps says where and why.
var ErrBatch = errors.New("cannot use these migrations")

// Bounds of a batch.
const (
	maxMigrations = 10_000   // of all files together
	maxFile       = 10 << 20 // bytes
)

//go:embed batch.schema.json
var ours []byte

// Schema is the JSON Schema 2020-12 of a file of migrations.
func Schema() ([]byte, error) { return spec.Into(ours) }

var compiled = sync.OnceValues(func() (*layers.Schema, error) {
	text, err := Schema()
	if err != nil {
		return nil, err
	}
	return layers.CompileSchema(text)
})

// Load reads the migrations of all files, in their order. The defaults of a file are
// laid over those of the one before, and hold for the migrations of all; migrations and
// overrides are put together. The error wraps ErrBatch, and tells of each fault the
// file, the line, the field, and what to write.
func Load(files ...string) ([]model.MigrationRequest, error) {
	b := &batch{defaults: layers.Over(nil, nil)}
	for _, name := range files {
		if err := b.add(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBatch, err)
		}
	}
	if len(b.entries) == 0 {
		return nil, fmt.Errorf("%w: there are none: write them into migrations", ErrBatch)
	}
	requests := b.requests()
	if err := b.faults.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	return requests, nil
}

// batch is what files say.
type batch struct {
	defaults  *layers.Value
	entries   []entry
	overrides []override
	faults    layers.Faults
	told      map[layers.Fault]bool // of faults, with no path
}

type entry struct {
	*layers.Value
	path string // such as migrations[3]
}

type override struct {
	*layers.Value
	path    string
	matched bool
}

// add reads one file, the shape of which is checked before anything is laid over it.
func (b *batch) add(name string) error {
	schema, err := compiled()
	if err != nil {
		return err
	}
	file, err := layers.ReadFile(name, maxFile)
	if err != nil {
		return err
	}
	if err := schema.Check(file.Bare()).Err(); err != nil {
		return err
	}
	if defaults := file.Fields["defaults"]; defaults != nil && defaults.Fields != nil {
		b.defaults = layers.Over(b.defaults, defaults)
	}
	for i, v := range list(file, "migrations") {
		b.entries = append(b.entries, entry{v, fmt.Sprintf("migrations[%d]", i)})
	}
	for i, v := range list(file, "overrides") {
		b.overrides = append(b.overrides, override{Value: v, path: fmt.Sprintf("overrides[%d]", i)})
	}
	if len(b.entries) > maxMigrations {
		return fmt.Errorf("%s: with it there are %d migrations, of at most %d: give them in several batches", name, len(b.entries), maxMigrations)
	}
	return nil
}

func list(file *layers.Value, name string) []*layers.Value {
	if v := file.Fields[name]; v != nil {
		return v.List
	}
	return nil
}

// fault notes what is wrong, once: what the defaults say wrongly is wrong in each entry.
func (b *batch) fault(f layers.Fault) {
	key := f
	key.Path = ""
	if b.told == nil {
		b.told = map[layers.Fault]bool{}
	}
	if !b.told[key] {
		b.told[key] = true
		b.faults = append(b.faults, f)
	}
}

func (b *batch) requests() []model.MigrationRequest {
	requests := make([]model.MigrationRequest, len(b.entries))
	for i, e := range b.entries {
		requests[i] = b.request(e)
	}
	for _, o := range b.overrides {
		if !o.matched {
			b.fault(layers.Fault{Origin: o.Origin, Path: o.path + ".match", Words: fmt.Sprintf("%q matches no migration", o.Fields["match"].Scalar)})
		}
	}
	if len(b.faults) == 0 {
		b.apart(requests)
		b.order(requests)
	}
	return requests
}

// request is an entry over the defaults, and under the overrides that match it.
func (b *batch) request(e entry) (r model.MigrationRequest) {
	asked := layers.Over(b.defaults, e.Value)
	if id := asked.Fields["id"]; id != nil {
		r.ID, _ = id.Scalar.(string) // the schema says so
		asked = asked.Without("id")
	}
	name := nameOf(asked)
	for i := range b.overrides {
		o := &b.overrides[i]
		if o.matches(name) {
			o.matched = true
			asked = layers.Over(asked, o.Fields["spec"])
		}
	}
	asked.Origin = e.Origin // what nobody says is lacking there
	s, faults := spec.Read(asked)
	for _, f := range faults {
		f.Path = strings.TrimSuffix(e.path+"."+f.Path, ".")
		b.fault(f)
	}
	r.Spec = s
	return r
}

// nameOf is the name that is asked for, or the source's.
func nameOf(asked *layers.Value) string {
	if name, ok := asked.At("name").Scalar.(string); ok {
		return name
	}
	source, _ := asked.At("source", "path").Scalar.(string)
	return sourceName(source)
}

func sourceName(source string) string {
	return strings.TrimSuffix(path.Base(source), path.Ext(source))
}

// matches tells whether an override is for a name.
func (o *override) matches(name string) bool {
	pattern, _ := o.Fields["match"].Scalar.(string)
	ok, err := path.Match(pattern, name)
	return ok || err != nil && pattern == name
}
