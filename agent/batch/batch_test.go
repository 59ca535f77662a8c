package batch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
)

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

// loaded are the migrations of files.
func loaded(files ...string) ([]model.MigrationRequest, error) {
	b, err := Load("", files...)
	return b.Migrations, err
}

const wave = `
defaults:
  target: {storage: kvm, format: raw}
  approval: required
  limits: [50M]
  schedule: {windows: ["mon-fri 20:00-06:00"], priority: 1}
migrations:
- source: {storage: vmware, path: web01/web01.vmx}
- id: db1
  name: db-main
  source: {storage: vmware, path: db01/db01.vmx}
  target: {format: ~}
  limits: ~
- source: {storage: vmware, path: db02/db02.vmx}
  schedule: {after: [db1]}
  grow: [{disk: 0, size: 42949672960}]
overrides:
- match: db*
  spec: {schedule: {priority: 5, windows: ~}}
- match: db02
  spec: {mode: rehearse, target: {storage: lab}}
`

func TestEntriesLieOverDefaultsAndUnderOverrides(t *testing.T) {
	got, err := loaded(write(t, wave)...)
	if err != nil {
		t.Fatal(err)
	}
	from := func(path string) model.Source { return model.Source{Storage: "vmware", Path: path} }
	want := []model.MigrationRequest{
		{Spec: model.Spec{Source: from("web01/web01.vmx"), Target: model.Target{Storage: "kvm", Format: "raw"}, Approval: "required", Limits: []string{"50M"},
			Schedule: model.Schedule{Windows: []string{"mon-fri 20:00-06:00"}, Priority: 1}}},
		{ID: "db1", Spec: model.Spec{Name: "db-main", Source: from("db01/db01.vmx"), Target: model.Target{Storage: "kvm"}, Approval: "required",
			Schedule: model.Schedule{Priority: 5}}},
		{Spec: model.Spec{Mode: "rehearse", Source: from("db02/db02.vmx"), Target: model.Target{Storage: "lab", Format: "raw"}, Approval: "required", Limits: []string{"50M"},
			Grow: []model.Growth{{Disk: 0, Size: 40 << 30}}, Schedule: model.Schedule{Priority: 5, After: []string{"db1"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFilesAreOneBatch(t *testing.T) {
	got, err := loaded(write(t,
		"defaults: {target: {storage: kvm}, mode: plan}\nmigrations: [{source: {storage: v, path: a.vmx}}]\n",
		"defaults: {mode: rehearse}\nmigrations: [{source: {storage: v, path: b.vmx}}]\n",
		"overrides: [{match: b, spec: {engine: direct}}]\n")...)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, r := range got {
		said = append(said, fmt.Sprint(r.Spec.Source.Path, " ", r.Spec.Mode, " ", r.Spec.Engine))
	}
	if diff := cmp.Diff([]string{"a.vmx rehearse ", "b.vmx rehearse direct"}, said); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsNameFileLineAndField(t *testing.T) {
	const head = "defaults: {target: {storage: kvm}}\nmigrations:\n"
	const one = "- source: {storage: v, path: a.vmx}\n"
	for text, want := range map[string]string{
		"migration: []":                         "1: migration: there is no such field: write migrations",
		"migrations: []":                        "there are none: write them into migrations",
		"defaults: {mod: plan}":                 "1: defaults.mod: there is no such field: write mode",
		"migrations:\n" + one:                   "2: migrations[0].target: is missing: write the storage",
		head + "- name: x\n":                    "3: migrations[0]: lacks source",
		head + one + "  engin: direct\n":        "4: migrations[0].engin: there is no such field: write engine",
		head + one + "  id: A\n":                `4: migrations[0].id: is "A": write what matches`,
		head + one + "- source: {storage: v}\n": "4: migrations[1].source: lacks path: in the storage, without a slash at its start",
		head + one + "  limits: [fast]\n":       `4: migrations[0].limits[0]: cannot use the limit "fast"`,
		head + one + "- source: {storage: v, path: b.vmx}\noverrides: [{match: 'c*', spec: {mode: plan}}]\n":                                             `5: overrides[0].match: "c*" matches no migration`,
		head + one + "overrides:\n- match: a\n  spec:\n    mode: go\n":                                                                                   `7: overrides[0].spec.mode: is "go": write migrate, rehearse, plan, inspect or test`,
		head + one + "overrides:\n- match: a\n  spec:\n    schedule: {windows: [nights]}\n":                                                              `7: migrations[0].schedule.windows[0]: cannot use the window "nights"`,
		head + one + "- source: {storage: w, path: x/a.vmdk}\n":                                                                                          "4: migrations[1].name: a in the storage kvm is the folder of the one in ",
		head + "- {id: x, source: {storage: v, path: a}}\n- {id: x, source: {storage: v, path: b}}\n":                                                    "4: migrations[1].id: x is the ID of the one in ",
		head + "- {id: x, source: {storage: v, path: a}, schedule: {after: [y]}}\n- {id: y, source: {storage: v, path: b}, schedule: {after: [z, x]}}\n": "3: migrations[0].schedule.after: waits for itself: x after y after x",
		head + "- {id: x, source: {storage: v, path: a}, schedule: {after: [x]}}\n":                                                                      "3: migrations[0].schedule.after: waits for itself: x after x",
		head + "- ~\n": "3: migrations[0]: is empty: write fields",
	} {
		file := write(t, text)[0]
		got, err := loaded(file)
		if !errors.Is(err, ErrBatch) {
			t.Errorf("%s\nis %+v, %v", text, got, err)
			continue
		}
		said := strings.TrimPrefix(err.Error(), ErrBatch.Error()+": ")
		if said = strings.TrimPrefix(said, file+":"); !strings.HasPrefix(said, want) {
			t.Errorf("%s\n  is %s\nwant %s", text, said, want)
		}
	}
}

// What the defaults say wrongly is told once, with their line.
func TestAFaultOfTheDefaultsIsToldOnce(t *testing.T) {
	text := "defaults:\n  target: {storage: kvm}\n  limits: [fast]\nmigrations:\n"
	for i := range 30 {
		text += fmt.Sprintf("- source: {storage: v, path: vm%d.vmx}\n", i)
	}
	file := write(t, text)[0]
	_, err := loaded(file)
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), file+":3: migrations[0].limits[0]: ") {
		t.Errorf("Load = %v", err)
	}
}

func many(n int) string {
	var b strings.Builder
	b.WriteString("defaults: {target: {storage: kvm}, schedule: {windows: ['mon-fri 20:00-06:00']}}\nmigrations:\n")
	for i := range n {
		fmt.Fprintf(&b, "- id: vm-%d\n  source:\n    storage: vmware\n    path: vm-%[1]d/vm-%[1]d.vmx\n  grow:\n  - {disk: 0, size: 42949672960}\n", i)
		if i > 0 {
			fmt.Fprintf(&b, "  schedule: {after: [vm-%d]}\n", i-1)
		}
	}
	return b.String()
}

func TestTheLargestBatchIsRead(t *testing.T) {
	began := time.Now()
	got, err := loaded(write(t, many(maxMigrations))...)
	if err != nil || len(got) != maxMigrations {
		t.Fatalf("Load = %d, %v", len(got), err)
	}
	t.Logf("%d migrations took %v", len(got), time.Since(began))
	if _, err := loaded(write(t, many(maxMigrations), "migrations: [{source: {storage: v, path: x}}]")...); err == nil || !strings.Contains(err.Error(), "there are 10001 migrations, of at most 10000") {
		t.Errorf("Load of one more = %v", err)
	}
	if _, err := loaded(write(t, many(maxMigrations+1))...); err == nil || !strings.Contains(err.Error(), "has 10001 entries: write at most 10000") {
		t.Errorf("Load of one more = %v", err)
	}
	large := write(t, "# "+strings.Repeat("x", maxFile))[0]
	if _, err := loaded(large); err == nil || !strings.Contains(err.Error(), "is larger than 10485760 bytes") {
		t.Errorf("Load of a large file = %v", err)
	}
}

func TestGuestsOfOneNameAreLookedAtTogether(t *testing.T) {
	got, err := loaded(write(t, "defaults: {mode: plan}\nmigrations:\n- source: {storage: v, path: a/vm.vmx}\n- source: {storage: v, path: b/vm.vmx}\n")...)
	if err != nil || len(got) != 2 {
		t.Errorf("Load = %+v, %v", got, err)
	}
}

// TestVMsAreOneOfABatch: overrides know them by their names, and what is said of how they
// are taken lies over what all have.
func TestVMsAreOneOfABatch(t *testing.T) {
	got, err := loaded(write(t, `
defaults: {target: {storage: kvm, networks: {'*': default}}, source: {vsphere: {server: vc1, powerOff: true}}}
migrations:
- source: {vsphere: {vm: /DC0/vm/db01}}
- source: {vsphere: {vm: web01.prod}}
overrides:
- match: db01
  spec: {source: {vsphere: {powerOff: null, shutdownWait: 60, marks: {tag: state/moved}}}, target: {cpus: 8, storages: {fast: ssd}}}
`)...)
	if err != nil {
		t.Fatal(err)
	}
	networks := map[string]string{"*": "default"}
	want := []model.MigrationRequest{
		{Spec: model.Spec{Source: model.Source{Vsphere: model.SourceVM{Server: "vc1", VM: "/DC0/vm/db01", ShutdownWait: 60, Marks: model.Marks{Tag: "state/moved"}}}, Target: model.Target{Storage: "kvm", Cpus: 8, Networks: networks, Storages: map[string]string{"fast": "ssd"}}}},
		{Spec: model.Spec{Source: model.Source{Vsphere: model.SourceVM{Server: "vc1", VM: "web01.prod", PowerOff: true}}, Target: model.Target{Storage: "kvm", Networks: networks}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := loaded(write(t, "defaults: {target: {storage: kvm}}\nmigrations:\n- source: {vsphere: {server: vc1, vm: /DC0/vm/a/web01}}\n- source: {vsphere: {server: vc1, vm: /DC0/vm/b/web01}}\n")...); err == nil || !strings.Contains(err.Error(), "web01 in the storage kvm is the folder of the one in") {
		t.Errorf("two VMs of one name are %v", err)
	}
	if _, err := loaded(write(t, "migrations:\n- {source: {storage: v, path: a/vm.vmx}, target: {storage: kvm}}\n- {source: {vsphere: {server: vc1, vm: vm}}, target: {storage: other, storages: {fast: kvm}}}\n")...); err == nil || !strings.Contains(err.Error(), "vm in the storage kvm is the folder of the one in") {
		t.Errorf("two whose disks go to one folder are %v", err)
	}
}
