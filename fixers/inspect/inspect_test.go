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
