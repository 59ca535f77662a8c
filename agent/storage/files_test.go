package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFilesAreListedAndOpenedInsideTheStorage(t *testing.T) {
	l, root := list(t)
	if err := unix.Mkfifo(filepath.Join(root, "from", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := l.Find("from")
	if err != nil {
		t.Fatal(err)
	}
	entries, more, err := s.Entries("", "absolute", 3)
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%s %s", e.Name, e.Kind))
	}
	if got := strings.Join(names, ", "); err != nil || !more || got != "in link, out link, pipe other" {
		t.Errorf("listed are %s, more: %t, %v", got, more, err)
	}
	for name, want := range map[string]error{"in/web01.vmx": nil, "out/secret": ErrPlace, "absolute": ErrPlace, "web01": fs.ErrNotExist, "pipe": fs.ErrNotExist, "none": fs.ErrNotExist, "../other/secret": ErrPlace, "": ErrPlace} {
		f, err := s.Open(name)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil {
			_, err = io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestAFolderHolds: what is done in a folder that was opened is done there, whatever
// becomes of the way to it.
func TestAFolderHolds(t *testing.T) {
	l, root := list(t)
	folder, name, err := l.Locate(Key("from", "in/new.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	if err := os.Remove(filepath.Join(root, "from", "in")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "other"), filepath.Join(root, "from", "in")); err != nil {
		t.Fatal(err)
	}
	if err := folder.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "from", "web01", "new.vmdk")); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"from/out/x", "from/../other/x", "none/x", "from"} {
		if _, _, err := l.Locate(key); !errors.Is(err, ErrPlace) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
