// Package spec says what is asked for of a migration, and what may be asked: the JSON
// Schema of the API's Spec, and the rules that a schema cannot say.
//
// Part: some of a Spec, over which more is laid before it is one.
package spec

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/pipeline/week"
)

// schema is made of the API's description by `make generate`. Its $defs are those of
// the API's schemas that a Spec is made of; SpecPart, which is a Spec of which nothing
// is required but in lists; and MigrationPart, which may have the migration's ID.
//
//go:embed spec.schema.json
var schema []byte

// Into is a JSON Schema whose $defs hold those of a Spec besides its own, so that it
// can refer to #/$defs/SpecPart and is whole.
func Into(document []byte) ([]byte, error) {
	var whole, ours struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(document, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(schema, &ours); err != nil {
		return nil, err
	}
	for name, def := range whole.Defs {
		ours.Defs[name] = def
	}
	defs, err := json.Marshal(ours.Defs)
	if err != nil {
		return nil, err
	}
	fields["$defs"] = defs
	return json.MarshalIndent(fields, "", "  ")
}

// Read is a whole Spec out of files, or layers.Faults that tell what is wrong with it.
func Read(v *layers.Value) (model.Spec, layers.Faults) {
	compiled, err := compiled()
	if err != nil {
		return model.Spec{}, layers.Faults{{Words: err.Error()}}
	}
	if faults := compiled.Check(v); len(faults) > 0 {
		return model.Spec{}, faults
	}
	var s model.Spec
	data, err := json.Marshal(v.Plain())
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil { // what the schema allows and Go's types cannot hold, such as a number of 20 digits
		return s, layers.Faults{v.Fault(nil, "%v", err)}
	}
	var faults layers.Faults
	for _, p := range Check(s) {
		faults = append(faults, v.Fault(p.Path, "%s", p.Words))
	}
	return s, faults
}

var compiled = sync.OnceValues(func() (*layers.Schema, error) { return layers.CompileSchema(schema) })

// Plain is what an ID can hold of a name.
func Plain(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// Problem is what is wrong with a field.
type Problem struct {
	Path  []string
	Words string
}

// Check is what is wrong with a Spec that its schema has nothing against.
func Check(s model.Spec) (problems []Problem) {
	add := func(words string, path ...string) { problems = append(problems, Problem{path, words}) }
	problems = append(problems, checkSource(s.Source)...)
	for i, f := range s.AllowFolders {
		if words := wrongPath(f.Path); words != "" {
			add(words, "allowFolders", fmt.Sprint(i), "path")
		}
	}
	if strings.ContainsAny(s.Name, "/\x00\n") || s.Name == "." || s.Name == ".." {
		add("is no name of a folder: write one without slashes", "name")
	}
	if s.Target.Storage == "" && !Looks(s) {
		add("is missing: write the storage that the results go to; only the modes plan and inspect have none", "target")
	}
	if s.Mode == model.ModeTest && s.Test.Skip != "" {
		add("is of a test that is asked for: leave it out, or choose another mode", "test", "skip")
	}
	if s.Test.Skip != "" && (s.Mode == "" || s.Mode == model.ModeMigrate) && s.Source.Vsphere.Marks != (model.Marks{}) {
		add("are of a VM whose result is proved to boot, and its test is left out: leave out marks, or test.skip", "source", "vsphere", "marks")
	}
	if s.Test.Hardware == model.TestHardwareVmware && (s.Mode != model.ModeTest || s.Test.With == model.TestWithLibvirt) {
		add("is for guests as they are: write mode: test, and test them with qemu", "test", "hardware")
	}
	if err := shape(s.Target).Check(); err != nil {
		add(err.Error(), "target")
	}
	for from, to := range s.Target.Networks {
		if from == "" || to == "bridge:" {
			add(fmt.Sprintf("has %q for %q: write the source's network and a libvirt network, or bridge:NAME", to, from), "target", "networks")
		}
	}
	if _, empty := s.Target.Storages[""]; empty {
		add("has an empty name: write the source's for where disks lie, such as a datastore's", "target", "storages")
	}
	problems = append(problems, checkTargetDisks(s)...)
	for i, g := range s.Grow {
		if g.Size%512 != 0 {
			add("is not a multiple of 512", "grow", fmt.Sprint(i), "size")
		}
	}
	for i, text := range s.Limits {
		if _, err := transfer.ParseLimit(text); err != nil {
			add(err.Error(), "limits", fmt.Sprint(i))
		}
	}
	for i, h := range s.Hooks {
		if (h.Program == "") == (h.Webhook == "") {
			add("has to name one of program and webhook", "hooks", fmt.Sprint(i))
		}
	}
	return append(problems, checkSchedule(s.Schedule)...)
}

// Looks tells of what makes nothing but a report of what it has found.
func Looks(s model.Spec) bool { return s.Mode == model.ModePlan || s.Mode == model.ModeInspect }

// checkSource holds a source to one place.
func checkSource(s model.Source) (problems []Problem) {
	add := func(words string, path ...string) {
		problems = append(problems, Problem{append([]string{"source"}, path...), words})
	}
	vm := s.Vsphere
	if Disks(s) != nil {
		return append(checkDisks(Disks(s), s.Disk, s.Disks, "source"), fileOrVM(s)...)
	}
	switch {
	case vm.Server == "" && vm.VM == "" && s.Storage == "" && s.Path == "":
		add("is empty: write storage and path of a file, disk with the ID of an attached one, or vsphere with server and vm")
	case vm.Server == "" && vm.VM == "" && s.Path == "":
		add("lacks path: in the storage, without a slash at its start")
	case vm.Server == "" && vm.VM == "" && s.Storage == "":
		add("lacks storage: a storage's name")
	case vm.Server != "" && (s.Storage != "" || s.Path != ""):
		add("is a file and a VM: write storage and path, or vsphere")
	}
	if words := wrongPath(s.Path); words != "" {
		add(words, "path")
	}
	if strings.ContainsAny(vm.VM, "\x00\n") {
		add("holds a line break or a zero byte", "vsphere", "vm")
	}
	return problems
}

// SourceName is what a source is called: a file without its extension, a VM as it is, a
// disk by its ID.
func SourceName(s model.Source) string {
	if list := Disks(s); list != nil {
		return list[0]
	}
	if s.Vsphere.VM != "" {
		return path.Base(s.Vsphere.VM)
	}
	return strings.TrimSuffix(path.Base(s.Path), path.Ext(s.Path))
}

// wrongPath tells why a place's path cannot be used; empty if it can. Where it leads is
// for who opens it to find out.
func wrongPath(p string) string {
	switch {
	case strings.HasPrefix(p, "/"):
		return "begins with a slash: write it as it is in the storage"
	case strings.ContainsRune(p, 0):
		return "holds a zero byte"
	case p == ".." || strings.HasPrefix(path.Clean(p), "../"):
		return "leads out of the storage"
	}
	return ""
}

func shape(t model.Target) disk.Shape {
	format := string(t.Format)
	if format == "" {
		format = disk.QCOW2
	}
	return disk.Shape{Format: format, Compress: t.Compress, ClusterSize: t.ClusterSize, Preallocation: string(t.Preallocation)}
}

func checkSchedule(s model.Schedule) (problems []Problem) {
	for field, list := range map[string][]string{"windows": s.Windows, "lockouts": s.Lockouts} {
		for i, text := range list {
			if _, err := week.Parse(text); err != nil {
				problems = append(problems, Problem{[]string{"schedule", field, fmt.Sprint(i)}, err.Error()})
			}
		}
	}
	if !s.End.IsZero() && !s.End.After(s.Start) {
		problems = append(problems, Problem{[]string{"schedule", "end"}, "is not after start, " + s.Start.Format(time.RFC3339)})
	}
	return problems
}
