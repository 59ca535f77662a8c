package linux

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

var update = flag.Bool("update", false, "write what the fixers do into the golden trees; review the difference")

// A golden tree has these parts besides its comment:
//
//	facts.json, machine.json     what inspection and the hypervisor say; where
//	                             the network is not said, it is read from the files
//	before/…, after/…            the guest's files, and those that change
//	initrd/NAME/…                what is in /boot/NAME, packed by the test
//	after-initrd/NAME/…          what must be in it then; empty: any content
//	concerns.txt                 level, code of each concern
func TestGoldenTrees(t *testing.T) {
	for _, f := range Fixers {
		t.Run(f.Name, func(t *testing.T) {
			names, err := filepath.Glob(filepath.Join("testdata", strings.TrimPrefix(f.Name, "linux/"), "*.txtar"))
			if err != nil {
				t.Fatal(err)
			}
			if len(names) == 0 {
				t.Fatalf("%s has no golden tree", f.Name)
			}
			for _, name := range names {
				t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { golden(t, f, name) })
			}
		})
	}
}

func TestEveryGoldenTreeIsOfAFixer(t *testing.T) {
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		known := slices.ContainsFunc(Fixers, func(f fixer.Fixer) bool { return f.Name == "linux/"+d.Name() })
		if !known && d.Name() != "fuzz" {
			t.Errorf("testdata/%s belongs to no fixer", d.Name())
		}
	}
}

func golden(t *testing.T, f fixer.Fixer, name string) {
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	in := inputOf(t, a)
	if !f.Applies(in) {
		t.Fatalf("%s does not apply", f.Name)
	}
	before := parse(t, tree.New(), a, "before")
	initrds := packInitrds(t, a, before)
	now := before.Clone()
	changes, concerns := plan(t, f, now, networked(in, now))
	inverse := apply(t, now, changes)
	if *update {
		rewrite(t, name, a, before, now, concerns, initrds)
		return
	}
	want := parse(t, before, a, "after")
	for _, name := range initrds {
		checkInitrd(t, a, now, name)
		copyFile(t, now, want, "/boot/"+name)
	}
	if diff := tree.Diff(want, now); diff != "" {
		t.Errorf("the fixed guest differs from before + after:\n%s", diff)
	}
	if got, want := concernLines(concerns), content(a, "concerns.txt"); got != want {
		t.Errorf("concerns:\n%swant:\n%s", got, want)
	}
	if again, _ := plan(t, f, now, networked(in, now)); len(again) > 0 {
		t.Errorf("planning again gives %d changes, the first: %s\n%s", len(again), again[0].Path, again[0].Diff)
	}
	apply(t, now, inverse)
	if diff := tree.Diff(before, now); diff != "" {
		t.Errorf("undo leaves a difference:\n%s", diff)
	}
}

func inputOf(t *testing.T, a *txtar.Archive) (in fixer.Input) {
	t.Helper()
	for name, to := range map[string]any{"facts.json": &in.Facts, "machine.json": &in.Machine} {
		d := json.NewDecoder(strings.NewReader(content(a, name)))
		d.DisallowUnknownFields()
		if err := d.Decode(to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return in
}

// networked is the input with what a guest's files say of its network, if nothing
// else is said.
func networked(in fixer.Input, files guest.Reader) fixer.Input {
	if n := &in.Facts.Network; n.Stacks == nil && n.Interfaces == nil && n.Pins == nil {
		*n, _ = inspect.ReadNetwork(files)
	}
	return in
}

func content(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func parse(t *testing.T, base *tree.FS, a *txtar.Archive, prefix string) *tree.FS {
	t.Helper()
	files, err := tree.Overlay(base, a, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func plan(t *testing.T, f fixer.Fixer, files guest.Reader, in fixer.Input) ([]guest.Change, []fixer.Concern) {
	t.Helper()
	view := guest.NewView(files)
	view.As(f.Name, f.Why)
	concerns, err := f.Plan(context.Background(), view, in)
	if err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return view.Changes(), concerns
}

func apply(t *testing.T, files guest.FS, changes []guest.Change) []guest.Change {
	t.Helper()
	inverse, err := guest.Apply(files, changes)
	if err != nil {
		t.Fatal(err)
	}
	return inverse
}

func concernLines(concerns []fixer.Concern) string {
	var out strings.Builder
	for _, c := range concerns {
		fmt.Fprintf(&out, "%s %s\n", c.Level, c.Code)
	}
	return out.String()
}

func copyFile(t *testing.T, from, to *tree.FS, name string) {
	t.Helper()
	data, err := from.ReadFile(name, guest.MaxFile)
	if err == nil {
		err = to.WriteFile(name, 0, data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rewrite puts what a fixer did into its golden tree.
func rewrite(t *testing.T, name string, a *txtar.Archive, before, now *tree.FS, concerns []fixer.Concern, initrds []string) {
	t.Helper()
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool {
		return f.Name == "concerns.txt" || strings.HasPrefix(f.Name, "after/")
	})
	old, files := before.Files(), now.Files()
	var names []string
	for n := range files {
		names = append(names, n)
	}
	for n := range old {
		if _, ok := files[n]; !ok {
			a.Files = append(a.Files, txtar.File{Name: "after" + n + " removed"})
		}
	}
	slices.Sort(names)
	for _, n := range names {
		is, was := files[n], old[n]
		_, existed := old[n]
		switch {
		case slices.Contains(initrds, filepath.Base(n)) || existed && is.Data == was.Data && is.Target == was.Target && is.Mode == was.Mode:
		case is.Target != "":
			a.Files = append(a.Files, txtar.File{Name: "after" + n + " -> " + is.Target})
		case is.Mode.IsDir():
		case !utf8.ValidString(is.Data) || strings.Contains(is.Data, "\x00"):
			a.Files = append(a.Files, txtar.File{Name: "after" + n + " encoding=base64", Data: base64Lines(is.Data)})
		case strings.HasSuffix(is.Data, "\n") || is.Data == "":
			a.Files = append(a.Files, txtar.File{Name: "after" + n, Data: []byte(is.Data)})
		default:
			a.Files = append(a.Files, txtar.File{Name: "after" + n + " eol=no", Data: []byte(is.Data + "\n")})
		}
	}
	if len(concerns) > 0 {
		a.Files = append(a.Files, txtar.File{Name: "concerns.txt", Data: []byte(concernLines(concerns))})
	}
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func base64Lines(data string) []byte {
	var out bytes.Buffer
	for chunk := range slices.Chunk([]byte(data), 57) {
		out.WriteString(base64.StdEncoding.EncodeToString(chunk) + "\n")
	}
	return out.Bytes()
}

// packInitrds makes the initrds that an archive describes and puts them into
// /boot; it returns their names.
func packInitrds(t *testing.T, a *txtar.Archive, files *tree.FS) []string {
	t.Helper()
	var names []string
	for _, f := range a.Files {
		rest, ok := strings.CutPrefix(f.Name, "initrd/")
		if name, _, _ := strings.Cut(rest, "/"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if _, err := files.Lstat("/boot"); len(names) > 0 && errors.Is(err, fs.ErrNotExist) {
		if err := files.Mkdir("/boot", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		data := pack(parse(t, tree.New(), a, "initrd/"+name))
		if err := files.WriteFile("/boot/"+name, 0, data); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// pack writes a tree as an uncompressed newc archive.
//
// Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
func pack(files *tree.FS) []byte {
	var out bytes.Buffer
	all := files.Files()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	inode := 0
	entry := func(name string, mode uint32, data string) {
		inode++
		fmt.Fprintf(&out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
			inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		out.Write(make([]byte, (4-out.Len()%4)%4))
		out.WriteString(data)
		out.Write(make([]byte, (4-out.Len()%4)%4))
	}
	for _, name := range names {
		f := all[name]
		switch rel := strings.TrimPrefix(name, "/"); {
		case rel == "":
		case f.Mode.IsDir():
			entry(rel, 0o040755, "")
		case f.Mode.Type() == fs.ModeSymlink:
			entry(rel, 0o120777, f.Target)
		default:
			entry(rel, 0o100000|guest.UnixMode(f.Mode), f.Data)
		}
	}
	entry("TRAILER!!!", 0, "")
	return out.Bytes()
}

// checkInitrd looks for what must be in an initrd.
func checkInitrd(t *testing.T, a *txtar.Archive, files *tree.FS, name string) {
	t.Helper()
	data, err := files.ReadFile("/boot/"+name, guest.MaxFile)
	if err != nil {
		t.Fatal(err)
	}
	rd, err := initrd.Parse(data, initrd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, f := range a.Files {
		file, ok := strings.CutPrefix(f.Name, "after-initrd/"+name+"/")
		if !ok {
			continue
		}
		checked++
		if file, ok := strings.CutSuffix(file, " removed"); ok {
			if rd.Has(file) {
				t.Errorf("%s in %s must not be there", file, name)
			}
			continue
		}
		if !rd.Has(file) {
			t.Errorf("%s is not in %s", file, name)
			continue
		}
		if got, err := rd.ReadFile(file); len(f.Data) > 0 && (err != nil || string(got) != string(f.Data)) {
			t.Errorf("%s in %s is %q, %v, want %q", file, name, got, err, f.Data)
		}
	}
	if checked == 0 {
		before := packed(t, a, name)
		if !bytes.Equal(before, data) {
			t.Errorf("%s was changed and the tree does not say to what", name)
		}
	}
}

func packed(t *testing.T, a *txtar.Archive, name string) []byte {
	t.Helper()
	return pack(parse(t, tree.New(), a, "initrd/"+name))
}
