package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// distant is a file that stands for one on another machine: it has no holes to tell of, and
// counts what it is asked.
type distant struct {
	File
	asked, open *atomic.Int64
}

func (f distant) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	f.asked.Add(1)
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return f.File.ReadAt(ctx, p, at)
}

func (f distant) Close() error {
	f.open.Add(-1)
	return f.File.Close()
}

// farAway opens files of a folder as if they lay elsewhere.
func farAway(dir string, asked, open *atomic.Int64) func(context.Context, string) (File, error) {
	return func(_ context.Context, name string) (File, error) {
		f, err := openLocal(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return distant{f, asked, open}, nil
	}
}

// reread checks a disk against the bytes that it must have: in one read, in pieces that
// begin anywhere, and by its extents.
func reread(t *testing.T, what string, d Remote, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	must(0, d.Read(t.Context(), got, 0))(t)
	differ(t, what, got, want)
	for off := 0; off < len(want); off += 77777 {
		p := bytes.Repeat([]byte{0xff}, min(99999, len(want)-off))
		must(0, d.Read(t.Context(), p, int64(off)))(t)
		if !bytes.Equal(p, want[off:off+len(p)]) {
			t.Errorf("%s: %d bytes at %d are wrong", what, len(p), off)
		}
	}
	for off := int64(0); off < d.Size(); {
		for _, a := range must(d.Extents(t.Context(), off, d.Size()-off))(t) {
			if a.Offset != off || a.Length <= 0 {
				t.Fatalf("%s: the extent %+v at %d", what, a, off)
			}
			if there := want[off : off+a.Length]; a.Zero && !bytes.Equal(there, make([]byte, a.Length)) {
				t.Errorf("%s: the hole %+v holds something", what, a)
			}
			off += a.Length
		}
	}
	if err := d.Read(t.Context(), make([]byte, 2), d.Size()-1); err == nil {
		t.Errorf("%s: a read beyond its end is answered", what)
	}
}

func TestEveryKindOfVMDKIsReadFromElsewhere(t *testing.T) {
	need(t, "qemu-img")
	raw := pattern(2048 + 77)
	for name, path := range disks(t, raw) {
		var asked, open atomic.Int64
		d, err := Elsewhere(t.Context(), []string{"/" + filepath.Base(path)}, farAway(filepath.Dir(path), &asked, &open))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		reread(t, name, d, raw)
		must(0, d.Close())(t)
		if open.Load() != 0 {
			t.Errorf("%s: %d files are left open", name, open.Load())
		}
	}
}

// A snapshot over a snapshot over a disk, as ESXi makes them of either kind.
func TestAChainIsReadFromElsewhere(t *testing.T) {
	dir, raw := t.TempDir(), pattern(3000)
	writeFile(t, filepath.Join(dir, "web-flat.vmdk"), string(raw))
	base := described(t, dir, "web.vmdk", 1, nil, `RW 3000 VMFS "web-flat.vmdk"`)
	want := bytes.Clone(raw)
	first, second := map[int64][]byte{}, map[int64][]byte{}
	for i := int64(3); i < 3000; i += 7 { // every seventh sector, so that grains are scattered
		first[i] = bytes.Repeat([]byte{1}, sectorSize)
		copy(want[i*sectorSize:], first[i])
	}
	for i := int64(9); i < 370; i += 5 {
		second[i] = bytes.Repeat([]byte{2}, 8*sectorSize)
		copy(want[i*8*sectorSize:], second[i])
	}
	writeFile(t, filepath.Join(dir, "web-000001-delta.vmdk"), string(cowd(3000, first)))
	one := described(t, dir, "web-000001.vmdk", 2, readChain(t, base), `RW 3000 VMFSSPARSE "web-000001-delta.vmdk"`)
	writeFile(t, filepath.Join(dir, "web-000002-sesparse.vmdk"), string(sesparse(3000, second)))
	described(t, dir, "web-000002.vmdk", 3, readChain(t, one), `RW 3000 SESPARSE "web-000002-sesparse.vmdk"`)
	var asked, open atomic.Int64
	files := farAway(dir, &asked, &open)
	d := must(Elsewhere(t.Context(), []string{"web-000002.vmdk", "web-000001.vmdk", "web.vmdk"}, files))(t)
	before := asked.Load()
	must(0, d.Read(t.Context(), make([]byte, len(raw)), 0))(t)
	if n := asked.Load() - before; n > 40 { // 800 grains
		t.Errorf("a read of the whole disk made %d requests", n)
	}
	reread(t, "a chain", d, want)
	must(0, d.Close())(t)
	for name, chain := range map[string][]string{
		"which is not named":      {"web-000002.vmdk", "web-000001.vmdk"},
		"it stands on no other":   {"web.vmdk", "web.vmdk"},
		"a snapshot of \"web.vm":  {"web-000001.vmdk"},
		"was written after":       {"web-000002.vmdk", "web.vmdk"},
		"it is a chain of 0":      {},
		"it is no descriptor":     {"web-000001-delta.vmdk"},
		"no such file or directo": {"gone.vmdk"},
	} {
		if d, err := Elsewhere(t.Context(), chain, files); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v, %v, want %q", chain, d, err, name)
		}
	}
	must(0, os.Truncate(filepath.Join(dir, "web-flat.vmdk"), 1000))(t)
	if _, err := Elsewhere(t.Context(), []string{"web.vmdk"}, files); !errors.Is(err, ErrTruncated) {
		t.Errorf("a disk that is cut short: %v", err)
	}
	described(t, dir, "evil.vmdk", 1, nil, `RW 3000 VMFS "../web-flat.vmdk"`)
	if _, err := Elsewhere(t.Context(), []string{"evil.vmdk"}, files); !errors.Is(err, ErrChain) {
		t.Errorf("a descriptor that leads elsewhere: %v", err)
	}
	if open.Load() != 0 {
		t.Errorf("%d files are left open", open.Load())
	}
}

func TestAReadFromElsewhereEndsWithItsContext(t *testing.T) {
	dir, raw := t.TempDir(), pattern(3000)
	writeFile(t, filepath.Join(dir, "web-flat.vmdk"), string(raw))
	described(t, dir, "web.vmdk", 1, nil, `RW 3000 VMFS "web-flat.vmdk"`)
	var asked, open atomic.Int64
	d := must(Elsewhere(t.Context(), []string{"web.vmdk"}, farAway(dir, &asked, &open)))(t)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := d.Read(ctx, make([]byte, 512), 0); !errors.Is(err, why) {
		t.Errorf("Read = %v, want %v", err, why)
	}
	must(0, d.Close())(t)
}

// Tables are asked for once, and what is not kept any more again.
func TestTablesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables")
	size := (mostPieces + 9) * tablePiece
	writeFile(t, path, strings.Repeat("table of 16 byte", size/16))
	var asked, open atomic.Int64
	f := &tabled{File: must(farAway("/", &asked, &open)(t.Context(), path))(t), pieces: map[int64][]byte{}}
	p := make([]byte, 100)
	for range 3 {
		must(0, readTable(t.Context(), f, p, tablePiece-50))(t)
	}
	if asked.Load() != 2 || !strings.HasPrefix(string(p), " byte") && !strings.Contains(string(p), "table of 16 byte") {
		t.Errorf("%d requests, read %q", asked.Load(), p)
	}
	for at := int64(0); at < int64(size); at += tablePiece {
		must(0, readTable(t.Context(), f, p[:16], at))(t)
	}
	if len(f.pieces) != mostPieces || string(p[:16]) != "table of 16 byte" {
		t.Errorf("%d pieces are kept, read %q", len(f.pieces), p[:16])
	}
	if err := readTable(t.Context(), f, p, int64(size)-1); !errors.Is(err, ErrTruncated) {
		t.Errorf("a table behind the end: %v", err)
	}
	if _, err := f.File.ReadAt(t.Context(), p, int64(size)); err != io.EOF {
		t.Error(err)
	}
	must(0, f.Close())(t)
}
