package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/machine"
)

var update = flag.Bool("update", false, "write the golden facts anew")

// golden is what inspecting a tree gives.
type golden struct {
	Error string `json:"error,omitempty"`
	Facts *Facts `json:"facts,omitempty"`
}

func TestFactsOfGuestTreesAreGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no trees: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			g, m := load(t, name)
			check(t, strings.TrimSuffix(name, ".txtar")+".json", inspected(t, g, m))
		})
	}
}

func inspected(t *testing.T, g guest.Guest, m machine.Machine) golden {
	t.Helper()
	f, err := Inspect(t.Context(), g, m, slog.New(slog.DiscardHandler))
	if err != nil {
		return golden{Error: err.Error()}
	}
	return golden{Facts: &f}
}

// check compares with a golden file, and the facts with what JSON keeps of them.
func check(t *testing.T, file string, got golden) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
	var back golden
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(back, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(again)+"\n"); diff != "" {
		t.Errorf("facts do not survive JSON (-want +got):\n%s", diff)
	}
}

// load makes a guest of an archive: machine.json, topology.json, and a folder
// of files for each file system that can be mounted, by device.
func load(t *testing.T, name string) (*tree.FS, machine.Machine) {
	t.Helper()
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var m machine.Machine
	var top guest.Topology
	volumes := map[string]*tree.FS{}
	for _, f := range archive.Files {
		switch f.Name {
		case "machine.json":
			err = json.Unmarshal(f.Data, &m)
		case "topology.json":
			err = json.Unmarshal(f.Data, &top)
		default:
			device := deviceOf(top, f.Name)
			if volumes[device] == nil {
				volumes[device], err = tree.Parse(archive, device)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return tree.NewGuest(top, volumes), m
}

// deviceOf is the device in front of a file's name: disk0p1/etc, or vg/root/etc.
func deviceOf(top guest.Topology, name string) string {
	for _, fs := range top.Filesystems {
		if strings.HasPrefix(name, fs.Device+"/") {
			return fs.Device
		}
	}
	device, _, _ := strings.Cut(name, "/")
	return device
}

func TestErrorsOfInspectAreSentinels(t *testing.T) {
	for name, want := range map[string]error{
		"empty-disk":           ErrNoOS,
		"encrypted-lvm":        ErrNoOS,
		"root-on-thin-volume":  ErrNoOS,
		"two-roots":            ErrManyRoots,
		"boot-cannot-mount":    ErrMount,
		"linux-beside-windows": ErrManyRoots,
	} {
		g, m := load(t, "testdata/"+name+".txtar")
		if _, err := Inspect(t.Context(), g, m, slog.New(slog.DiscardHandler)); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
	}
}

func TestInspectStopsWhenItsContextEnds(t *testing.T) {
	g, m := load(t, "testdata/debian-12-bios-bypath.txtar")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := fmt.Errorf("the operator said so")
	cancel(why)
	if _, err := Inspect(ctx, g, m, slog.New(slog.DiscardHandler)); !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
}

func TestInspectingTwiceGivesTheSameFacts(t *testing.T) {
	g, m := load(t, "testdata/rhel-9-bls-xfs.txtar")
	first := inspected(t, g, m)
	if err := g.UnmountAll(); err != nil {
		t.Fatal(err)
	}
	check(t, "testdata/rhel-9-bls-xfs.json", first)
	check(t, "testdata/rhel-9-bls-xfs.json", inspected(t, g, m))
}

// listed is a guest that tells which of its files were read.
type listed struct {
	*tree.FS
	read []string
}

func (l *listed) ReadFile(name string, limit int64) ([]byte, error) {
	l.read = append(l.read, name)
	return l.FS.ReadFile(name, limit)
}

func TestACheckComesBeforeTheFilesAndChangesNoFact(t *testing.T) {
	const name = "testdata/rhel-9-bls-xfs"
	g, m := load(t, name+".txtar")
	l, checks, mounts := &listed{FS: g}, 0, []Mount{}
	look := func(f Facts) error {
		checks++
		mounts = f.Mounts
		if list, err := g.ReadDir("/"); err != nil || len(list) > 0 {
			t.Errorf("what is checked is mounted: %v, %v", list, err)
		}
		if slices.ContainsFunc(l.read, func(name string) bool { return strings.HasPrefix(name, "/boot") }) {
			t.Errorf("read before the check: %q", l.read)
		}
		return nil
	}
	f, err := Checked(t.Context(), l, m, slog.New(slog.DiscardHandler), look)
	if err != nil || checks != 1 {
		t.Fatalf("Checked = %v after %d checks, want 1", err, checks)
	}
	check(t, name+".json", golden{Facts: &f})
	if d := cmp.Diff(f.Mounts, mounts); d != "" {
		t.Errorf("the check was told of other mounts (-facts +told):\n%s", d)
	}
	why := errors.New("it cannot be checked")
	if _, err := Checked(t.Context(), l, m, slog.New(slog.DiscardHandler), func(Facts) error { return why }); !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
}

// deaf is a guest whose every file is unreadable.
type deaf struct{ *tree.FS }

func (deaf) ReadFile(name string, _ int64) ([]byte, error) {
	return nil, fmt.Errorf("%s: input/output error", name)
}

func TestUnreadableFilesAreProblemsNotErrors(t *testing.T) {
	g, m := load(t, "testdata/debian-12-bios-bypath.txtar")
	f, err := Inspect(t.Context(), deaf{g}, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Problems) == 0 || len(f.Kernels) == 0 || f.Kernels[0].Problem == "" {
		t.Errorf("problems %v, kernels %+v: the unreadable files are not told of", f.Problems, f.Kernels)
	}
}

// brokenGuest is one whose engine breaks down after some files were read.
type brokenGuest struct {
	guest.Guest
	left int
}

var errBroken = errors.New("the engine broke down")

func (b *brokenGuest) ReadFile(name string, limit int64) ([]byte, error) {
	if b.left--; b.left < 0 {
		return nil, errBroken
	}
	return b.Guest.ReadFile(name, limit)
}

func (b *brokenGuest) Err() error {
	if b.left < 0 {
		return errBroken
	}
	return nil
}

func TestAnEngineThatBreaksDownIsNoMissingFile(t *testing.T) {
	for left := range 1000 {
		g, m := load(t, "testdata/debian-12-bios-bypath.txtar")
		b := &brokenGuest{g, left}
		_, err := Inspect(t.Context(), b, m, slog.New(slog.DiscardHandler))
		if b.left >= 0 {
			if err != nil || left < 20 {
				t.Errorf("with %d files: %v", left, err)
			}
			return
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("after %d files: error %v, want that of the engine", left, err)
		}
	}
}
