// Package batch reads files of migrations: what is asked for of all, of each, and of
// some by their names, laid over one another.
//
// Entry: one migration as a file says it. Override: what is laid over the entries
// whose names match. Group: entries that come one after another.
package batch

import (
	"cmp"
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

// Batch is what files ask for. What they say of groups and of a common schedule is in
// the migrations.
type Batch struct {
	Name       string // "" if nobody says; the migrations have IDs if there is one
	AtOnce     int    // 0 if nobody says
	Groups     []model.BatchGroup
	Migrations []model.MigrationRequest
}

// Load reads the migrations of all files, in their order, and calls them by a name, or
// by that of a file if it is "". The defaults of a file are laid over those of the one
// before, and hold for the migrations of all; migrations, overrides and groups are put
// together. The error wraps ErrBatch, and tells of each fault the file, the line, the
// field, and what to write.
func Load(name string, files ...string) (Batch, error) {
	b := &batch{defaults: layers.Over(nil, nil)}
	for _, file := range files {
		v, err := layers.ReadFile(file, maxFile)
		if err := cmp.Or(err, b.add(v)); err != nil {
			return Batch{}, fmt.Errorf("%w: %w", ErrBatch, err)
		}
	}
	return b.whole(name)
}

// Read reads one document as Load does a file; faults have no file.
func Read(data []byte) (Batch, error) {
	b := &batch{defaults: layers.Over(nil, nil)}
	v, err := layers.Read("", data)
	if err := cmp.Or(err, b.add(v)); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	return b.whole("")
}

// whole is the batch that is asked for.
func (b *batch) whole(name string) (Batch, error) {
	if len(b.entries) == 0 {
		return Batch{}, fmt.Errorf("%w: there are none: write them into migrations", ErrBatch)
	}
	whole := Batch{Name: cmp.Or(name, b.name), AtOnce: b.atOnce}
	whole.Migrations = b.requests(whole.Name)
	for _, g := range b.groups {
		whole.Groups = append(whole.Groups, g.BatchGroup)
	}
	if err := b.faults.Err(); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	return whole, nil
}

// batch is what files say.
type batch struct {
	defaults  *layers.Value
	entries   []entry
	overrides []override
	groups    []group
	name      string
	atOnce    int
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

// add takes one file, the shape of which is checked before anything is laid over it.
func (b *batch) add(file *layers.Value) error {
	schema, err := compiled()
	if file == nil || err != nil {
		return err
	}
	if err := schema.Check(file.Bare()).Err(); err != nil {
		return err
	}
	if defaults := file.Fields["defaults"]; defaults != nil && defaults.Fields != nil {
		b.defaults = layers.Over(b.defaults, defaults)
	}
	if v := file.Fields["schedule"]; v != nil && v.Fields != nil {
		b.defaults = layers.Over(b.defaults, layers.Over(nil, nil).With("schedule", v))
	}
	if v := file.Fields["name"]; v != nil {
		b.name, _ = v.Scalar.(string) // the schema says so
	}
	if v := file.Fields["atOnce"]; v != nil {
		b.atOnce = int(v.Scalar.(int64))
	}
	for i, v := range list(file, "groups") {
		b.groups = append(b.groups, groupOf(v, i))
	}
	for i, v := range list(file, "migrations") {
		b.entries = append(b.entries, entry{v, fmt.Sprintf("migrations[%d]", i)})
	}
	for i, v := range list(file, "overrides") {
		b.overrides = append(b.overrides, override{Value: v, path: fmt.Sprintf("overrides[%d]", i)})
	}
	if len(b.entries) > maxMigrations {
		return fmt.Errorf("%s: with it there are %d migrations, of at most %d: give them in several batches", file.File, len(b.entries), maxMigrations)
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

func (b *batch) requests(name string) []model.MigrationRequest {
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
		identify(requests, name)
		b.apart(requests)
		b.group(requests)
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
	var source model.Source
	source.Path, _ = asked.At("source", "path").Scalar.(string)
	source.Vsphere.VM, _ = asked.At("source", "vsphere", "vm").Scalar.(string)
	source.Disk, _ = asked.At("source", "disk").Scalar.(string)
	if list := asked.At("source", "disks").List; len(list) > 0 {
		source.Disk, _ = list[0].Scalar.(string)
	}
	return spec.SourceName(source)
}

// matches tells whether an override is for a name.
func (o *override) matches(name string) bool {
	pattern, _ := o.Fields["match"].Scalar.(string)
	ok, err := path.Match(pattern, name)
	return ok || err != nil && pattern == name
}
