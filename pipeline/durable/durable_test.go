package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/pipeline/durable/durabletest"
)

func TestWhatIsWrittenOutlivesAPowerCut(t *testing.T) {
	d := durabletest.New(t)
	in := func(name string) string { return filepath.Join(d.Folder, name) }
	for _, err := range []error{
		os.WriteFile(in("careless"), []byte("lost"), 0o600), // so that the test is one
		Write(in("first"), []byte("of two")),
		Write(in("first"), []byte("again")),
		os.MkdirAll(in("a/b"), 0o700),
		Write(in("a/b/second"), []byte("deep")),
		Write(in("third"), nil),
		Rename(in("third"), in("a/third")),
		os.WriteFile(in("late"), []byte("lost"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	after := d.Cut(t)
	for name, want := range map[string]string{"first": "again", "a/b/second": "deep", "a/third": ""} {
		got, err := os.ReadFile(filepath.Join(after, name))
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
		if info, err := os.Stat(filepath.Join(after, name)); err == nil && info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
	for _, name := range []string{"late", "third", "first" + Part} {
		if _, err := os.Lstat(filepath.Join(after, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileThatCannotBeWrittenLeavesTheOneThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := Write(path, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+Part, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("other")); err == nil {
		t.Error("it is written in place of a folder")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "whole" {
		t.Errorf("%q, %v", got, err)
	}
	if err := Rename(path, filepath.Join(path, "b")); err == nil {
		t.Error("a file is a folder")
	}
}
