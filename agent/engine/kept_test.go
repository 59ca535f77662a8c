package engine

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"
)

func TestSmallFilesAreKeptOnceAndForgottenWithTheirMigration(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	submitted(t, e, "web01", spec())
	ends(t, e, "web01", "done")
	read := 0
	file := func(path, text string, changed time.Time) File {
		return File{path, int64(len(text)), changed, func() (io.ReadCloser, error) {
			read++
			return io.NopCloser(strings.NewReader(text)), nil
		}}
	}
	then, now := time.Now().Add(-time.Hour), time.Now()
	for _, step := range []struct {
		files []File
		read  int // in all, afterwards
	}{
		{[]File{file("a.md", "one", then), file("evidence/serial.log", "login:", then)}, 2},
		{[]File{file("a.md", "one", then), file("evidence/serial.log", "login:", then)}, 2},
		{[]File{file("a.md", "two", now)}, 3},
	} {
		if err := e.Keep(t.Context(), "web01", step.files); err != nil || read != step.read {
			t.Fatalf("%d files were read in all, want %d, %v", read, step.read, err)
		}
	}
	list, err := e.Kept(t.Context(), "web01")
	if err != nil || len(list) != 2 || list[0].Path != "a.md" || list[1].Size != 6 || !list[1].Kept {
		t.Errorf("kept are %+v, %v", list, err)
	}
	r, size, err := e.OpenKept(t.Context(), "web01", "a.md")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "two" || size != 3 || r.Close() != nil {
		t.Errorf("a.md is %q, %v", text, err)
	}
	if err := e.Forget(t.Context(), "web01", 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.OpenKept(t.Context(), "web01", "a.md"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forgotten, it opens with %v", err)
	}
	if list, err := e.Kept(t.Context(), "web01"); err != nil || len(list) > 0 {
		t.Errorf("forgotten, kept are %+v, %v", list, err)
	}
}
