package update

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/proc"
)

var update = flag.Bool("update", false, "write what GRUB is given into testdata")

// TestGRUBIsGivenAMenu that it can read, by the versions on the ESP.
func TestGRUBIsGivenAMenu(t *testing.T) {
	for name, list := range map[string][]image{
		"one":   {{version: oldVersion}},
		"trial": {{version: oldVersion}, {newVersion, true, 3, 0}},
		"both":  {{version: oldVersion}, {version: newVersion}},
	} {
		folder := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(folder, images), 0o755))
		for _, i := range list {
			must(t, os.WriteFile(filepath.Join(folder, i.name()), uki(i.version), 0o600))
		}
		must(t, Menu(folder))
		for _, file := range []string{menuAt, blockAt} {
			got, err := os.ReadFile(filepath.Join(folder, file))
			must(t, err)
			golden(t, name+"."+filepath.Base(file), got)
		}
		_, err := proc.Run(t.Context(), "grub-script-check", filepath.Join(folder, menuAt))
		if err != nil && !(errors.Is(err, proc.ErrMissing) && os.Getenv("NEED_TOOLS") == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

// TestGRUBReadsTheBlock as its own program does.
func TestGRUBReadsTheBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "grubenv")
	must(t, os.WriteFile(path, block{newVersion, 2}.bytes(), 0o600))
	out, err := proc.Run(t.Context(), "grub-editenv", path, "list")
	if errors.Is(err, proc.ErrMissing) && os.Getenv("NEED_TOOLS") == "" {
		t.Skip(err)
	}
	must(t, err)
	if want := "trial=" + newVersion + "\ntries=2\n"; string(out) != want {
		t.Errorf("it reads %q, want %q", out, want)
	}
}

// TestTriesThatGRUBHasCountedAreOver when the menu is made anew.
func TestTriesThatGRUBHasCountedAreOver(t *testing.T) {
	folder := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(folder, images), 0o755))
	must(t, os.WriteFile(filepath.Join(folder, image{newVersion, true, 3, 0}.name()), uki(newVersion), 0o600))
	must(t, Menu(folder))
	e := esp{folder, func(string) error { return nil }}
	must(t, e.change(blockAt, block{newVersion, 1}.bytes()))
	must(t, Menu(folder))
	if b, err := e.block(); err != nil || b.tries != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}
