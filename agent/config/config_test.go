package config

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
)

var small = host{name: "kvm9", cpus: 4, memory: 8 << 30}

// write puts files into a folder and returns their paths.
func write(t *testing.T, texts ...string) (paths []string) {
	t.Helper()
	folder := t.TempDir()
	for i, text := range texts {
		path := filepath.Join(folder, string(rune('a'+i))+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestNothingSaidIsDefaults(t *testing.T) {
	got, err := load(nil, small)
	if err != nil {
		t.Fatal(err)
	}
	want := &Settings{
		Appliance: Appliance{Name: "kvm9"},
		State:     "/var/lib/hyper2kvm",
		Listen:    []Listen{{HTTPS: ":8443"}, {Unix: "/run/hyper2kvm/agent.sock"}},
		Storages:  []Storage{},
		VSphere:   []Server{},
		Capacity:  2,
		Limits:    []Limit{},
		Engine:    Engine{Shape: Single, Lease: Duration(30 * time.Second)},
		Hooks:     Hooks{Folder: "/etc/hyper2kvm/hooks.d", Webhooks: []Webhook{}},
		Notify:    Notify{Webhooks: []Webhook{}},
		Watch:     []Watch{},
		Log:       Log{Level: "info"},
		Audit:     Audit{Keep: Duration(365 * 24 * time.Hour)},
		Keep:      Keep{For: Duration(365 * 24 * time.Hour), Count: 10000},
	}
	got.values = nil
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Settings{})); diff != "" {
		t.Error(diff)
	}
}

func TestAllThatCanBeSetIsRead(t *testing.T) {
	s, err := load([]string{"testdata/full.yaml"}, small)
	if err != nil {
		t.Fatal(err)
	}
	unset := unsetFields(reflect.ValueOf(*s), "Settings")
	want := []string{"Settings.Engine.External", "Settings.Engine.Hub", "Settings.Engine.Worker"} // one shape at a time
	if diff := cmp.Diff(want, unset); diff != "" {
		t.Errorf("full.yaml leaves out: %s", diff)
	}
	if esx := s.VSphere[1]; esx.VDDKModes != "san:nbdssl" || esx.VDDKPlugin != "/srv/nbdkit-vddk-plugin.so" || esx.SSH.Fingerprint == "" || esx.SSH.KnownHosts != "" {
		t.Errorf("the ESXi host is %+v with %+v", esx, esx.SSH)
	}
	w := s.Watch[0]
	if w.Settled != Duration(2*time.Minute) || w.Spec.Approval != model.SpecApprovalRequired || w.Spec.Schedule.Windows[0] != "mon-fri 20:00-06:00" {
		t.Errorf("watch is %+v", w)
	}
	if got := s.Notify.Mail.Events; !slices.Equal(got, []model.State{"planned", "done", "failed"}) || s.Notify.Mail.Encryption != "startTLS" || s.OIDC.Claim != "groups" {
		t.Errorf("defaults within are %v, %q, %q", got, s.Notify.Mail.Encryption, s.OIDC.Claim)
	}
}

// unsetFields are fields of structs, pointers included, that nobody set. Lists are
// taken as a whole, and so are what other packages define.
func unsetFields(v reflect.Value, path string) (unset []string) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		if v.IsZero() {
			return []string{path}
		}
		return nil
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			unset = append(unset, unsetFields(v.Field(i), path+"."+f.Name)...)
		}
	}
	slices.Sort(unset)
	return unset
}

// The schema and the types have the same fields, and each is explained.
func TestEverySettingIsDocumented(t *testing.T) {
	var document map[string]any
	if err := json.Unmarshal(ours, &document); err != nil {
		t.Fatal(err)
	}
	documented(t, document["$defs"].(map[string]any), document, reflect.TypeFor[Settings](), "settings")
}

func documented(t *testing.T, defs, schema map[string]any, typ reflect.Type, path string) {
	if ref, ok := schema["$ref"].(string); ok {
		if strings.HasSuffix(ref, "/SpecPart") {
			return
		}
		def := maps.Clone(defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any))
		maps.Copy(def, schema)
		schema = def
	}
	if about, _ := schema["description"].(string); about == "" {
		t.Errorf("%s has no description", path)
	}
	if items, ok := schema["items"].(map[string]any); ok && typ.Elem().Kind() == reflect.Struct {
		documented(t, defs, items, typ.Elem(), path+"[]")
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s allows any field", path)
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	fields := map[string]reflect.Type{}
	for i := range typ.NumField() {
		if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); name != "" {
			fields[name] = typ.Field(i).Type
		}
	}
	if typ == reflect.TypeFor[Webhook]() {
		delete(fields, "events") // of notify's alone
	}
	for name, p := range properties {
		if field, ok := fields[name]; ok {
			documented(t, defs, p.(map[string]any), field, path+"."+name)
		} else if name != "events" {
			t.Errorf("no field of %v is %s.%s", typ, path, name)
		}
		delete(fields, name)
	}
	for name := range fields {
		t.Errorf("the schema lacks %s.%s", path, name)
	}
}

func TestFilesAreMergedInOrderAndTellWhoSaidWhat(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "config.d")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"20-b.yaml": "log: {level: warn}\n", "10-a.yaml": "log: {level: error}\ncapacity: 5\n", "notes.txt": "]["} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files := write(t, "log: {level: debug}\nengine:\n  shape: worker\n  worker: {hub: 'hub:4222'}\n", "engine:\n  shape: single\n  worker: ~\n")
	s, err := load(append(files, folder), small)
	if err != nil {
		t.Fatal(err)
	}
	dump, err := s.Dump()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"  level: warn # " + folder + "/20-b.yaml:1",
		"capacity: 5 # " + folder + "/10-a.yaml:2",
		"  shape: single # " + files[1] + ":2",
		"  lease: 30s # default",
		"  name: kvm9 # default: the host's name",
	} {
		if !strings.Contains(dump, line+"\n") {
			t.Errorf("the dump lacks %q:\n%s", line, dump)
		}
	}
	if s.Engine.Worker != nil {
		t.Error("null did not remove the worker")
	}
}

func TestADumpIsTheSameSettings(t *testing.T) {
	s, err := load([]string{"testdata/full.yaml"}, small)
	if err != nil {
		t.Fatal(err)
	}
	dump, err := s.Dump()
	if err != nil {
		t.Fatal(err)
	}
	again, err := load(write(t, dump), host{name: "other", cpus: 64, memory: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	s.values, again.values = nil, nil
	if diff := cmp.Diff(s, again, cmp.AllowUnexported(Settings{})); diff != "" {
		t.Error(diff)
	}
}

func TestCapacityFollowsFromTheHost(t *testing.T) {
	for _, c := range []struct {
		cpus   int
		memory int64
		want   int
	}{{1, 1 << 30, 1}, {2, 4 << 30, 1}, {4, 8 << 30, 2}, {8, 5 << 30, 2}, {8, 64 << 30, 4}, {256, 1 << 40, 16}, {1, 512 << 20, 1}} {
		if got := (host{cpus: c.cpus, memory: c.memory}).capacity(); got != c.want {
			t.Errorf("capacity of %d CPUs and %d MiB = %d, want %d", c.cpus, c.memory>>20, got, c.want)
		}
	}
	this, err := thisHost()
	if err != nil || this.memory < 64<<20 || this.name == "" || this.cpus < 1 {
		t.Errorf("this host is %+v, %v", this, err)
	}
}

func TestAHubNeedsNoMoreThanItsShape(t *testing.T) {
	s, err := load(write(t, "engine: {shape: hub}"), small)
	if err != nil || s.Engine.Hub == nil || s.Engine.Hub.Listen != ":4222" {
		t.Errorf("engine = %+v, %v", s, err)
	}
}

func TestOnlyWhatIsThereIsReadIfNobodySays(t *testing.T) {
	file := write(t, "capacity: 1\n")[0]
	if got := present(file+".none", file); !slices.Equal(got, []string{file}) {
		t.Errorf("present = %v", got)
	}
}

func TestAFileThatAnybodyCanWriteIsRefused(t *testing.T) {
	file := write(t, "capacity: 1\n")[0]
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "chmod o-w "+file) {
		t.Errorf("Load = %v", err)
	}
	if _, err := Load(file + ".none"); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Load of a file that is not there = %v", err)
	}
}
