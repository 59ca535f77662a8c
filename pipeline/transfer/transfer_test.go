package transfer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

func TestProgressIsReadAsItComes(t *testing.T) {
	var got []float64
	p := &percent{report: func(f float64) { got = append(got, f) }}
	for _, piece := range []string{"    (0.00/100%)\r  ", "  (12.5", "0/100%)\r", "    (100.00/100%)\r\n"} {
		if _, err := p.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]float64{0, 12.5, 100}, got); d != "" {
		t.Error(d)
	}
}

func TestAFullTargetIsSaidToBe(t *testing.T) {
	err := explain(&proc.Error{Argv: []string{"qemu-img"}, Exit: 1, Stderr: "qemu-img: error while writing: No space left on device", Err: errors.New("exit status 1")})
	if !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("explain = %v", err)
	}
}

// source serves a raw disk of 3 MiB with data at its start and end.
func source(t *testing.T) (*disk.Source, []byte) {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-nbd"} {
		if _, err := proc.Look(program); err != nil {
			if os.Getenv("NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	data := make([]byte, 3<<20)
	copy(data, bytes.Repeat([]byte("start"), 1000))
	copy(data[len(data)-5000:], bytes.Repeat([]byte("end.."), 1000))
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := disk.OpenSource(t.Context(), path, disk.Raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, data
}

func TestACopyIsWholeAndItsOwn(t *testing.T) {
	s, data := source(t)
	for _, format := range []string{disk.QCOW2, disk.Raw} {
		to := Target{Path: filepath.Join(t.TempDir(), "out."+format), Format: format, Size: s.Size}
		last := Progress{}
		got, err := QemuImg{}.Copy(t.Context(), s.Export, to, func(p Progress) { last = p })
		if err != nil {
			t.Fatal(err)
		}
		if last.Virtual != s.Size || last.Total != s.Size {
			t.Errorf("%s: the last progress is %+v", format, last)
		}
		if got.Allocated >= s.Size || len(got.SHA256) != 64 {
			t.Errorf("%s: %d of %d bytes allocated, digest %q", format, got.Allocated, s.Size, got.SHA256)
		}
		back, err := proc.Run(t.Context(), "qemu-img", "dd", "-f", format, "-O", "raw", "bs=3M", "if="+to.Path, "of="+to.Path+".back")
		if err != nil {
			t.Fatalf("%s: %v %s", format, err, back)
		}
		if read, err := os.ReadFile(to.Path + ".back"); err != nil || !bytes.Equal(read, data) {
			t.Errorf("%s: the copy differs (%v)", format, err)
		}
	}
}

func TestAnExistingTargetIsKept(t *testing.T) {
	s, _ := source(t)
	path := filepath.Join(t.TempDir(), "out.qcow2")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := QemuImg{}.Copy(t.Context(), s.Export, Target{path, disk.QCOW2, s.Size}, func(Progress) {})
	if !errors.Is(err, ErrTarget) {
		t.Errorf("Copy over a file: %v, want %v", err, ErrTarget)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

func TestACopyThatIsCancelledLeavesNothing(t *testing.T) {
	s, _ := source(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator left")
	dir := t.TempDir()
	cancel(reason)
	_, err := QemuImg{}.Copy(ctx, s.Export, Target{filepath.Join(dir, "out.qcow2"), disk.QCOW2, s.Size}, func(Progress) {})
	if !errors.Is(err, reason) {
		t.Errorf("Copy = %v, want %v", err, reason)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestACopyOfADeadSourceLeavesNothing(t *testing.T) {
	s, _ := source(t)
	dir := t.TempDir()
	gone := disk.Export{Socket: s.Socket + ".gone", Name: s.Name}
	if _, err := (QemuImg{}).Copy(t.Context(), gone, Target{filepath.Join(dir, "out.qcow2"), disk.QCOW2, s.Size}, func(Progress) {}); err == nil {
		t.Error("a copy of nothing succeeded")
	}
	if _, err := os.Stat(filepath.Join(dir, "out.qcow2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a result has the final name: %v", err)
	}
}

// Only a copy that was renamed leaves no temporary file, so only then is a file
// under the final name the copy's own.
func TestDiscardTakesOnlyWhatTheCopyMade(t *testing.T) {
	for name, c := range map[string]struct {
		left, want []string
	}{
		"killed before the rename, and somebody took the name": {[]string{"a", "a.partial"}, []string{"a"}},
		"killed before the rename":                             {[]string{"a.partial"}, nil},
		"killed after the rename":                              {[]string{"a"}, nil},
		"killed before it began":                               {nil, nil},
	} {
		dir := t.TempDir()
		for _, file := range c.left {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Discard(filepath.Join(dir, "a")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
}
