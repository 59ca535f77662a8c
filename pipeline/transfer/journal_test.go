package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// begun is a manifest and a journal of a disk of 10 chunks, of which the journal
// tells of three runs.
func begun(t *testing.T) (*manifest, string) {
	t.Helper()
	dir := t.TempDir()
	h := newHeader("x", 10<<20)
	m, err := createManifest(filepath.Join(dir, "m"), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.close() })
	j, err := createJournal(filepath.Join(dir, "j"), h)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for i := range int64(6) {
		if err := m.set(i, Digest{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []run{{0, 2, 0}, {2, 2, 0}, {5, 3, 0}} {
		if err := j.add(m, r.first, r.count); err != nil {
			t.Fatal(err)
		}
	}
	return m, filepath.Join(dir, "j")
}

func replayed(t *testing.T, m *manifest, path string) []run {
	t.Helper()
	j, err := openJournal(path, m.header)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	done, err := j.replay(m)
	if err != nil {
		t.Fatal(err)
	}
	return done.runs(m.chunks())
}

func TestTheJournalIsBelievedAsFarAsItIsWhole(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, m *manifest, path string)
		want  int // runs that are left
	}{
		"whole":             {func(*testing.T, *manifest, string) {}, 2},
		"its end is cut":    {func(t *testing.T, _ *manifest, path string) { cut(t, path, 5) }, 1},
		"a bit is flipped":  {func(t *testing.T, _ *manifest, path string) { flip(t, path, headerSize+recordSize+3) }, 1},
		"a digest is other": {func(t *testing.T, m *manifest, _ string) { m.set(6, Digest{9}) }, 1},
		"its first is lost": {func(t *testing.T, _ *manifest, path string) { flip(t, path, headerSize) }, 0},
	} {
		m, path := begun(t)
		c.spoil(t, m, path)
		if got := replayed(t, m, path); len(got) != c.want {
			t.Errorf("%s: the journal tells of %+v, want %d runs", name, got, c.want)
		}
	}
}

func TestAJournalOfAnotherCopyIsNotGoneOnWith(t *testing.T) {
	m, path := begun(t)
	other := m.header
	other.ID = "y"
	if _, err := openJournal(path, other); !errors.Is(err, ErrManifest) {
		t.Errorf("openJournal = %v, want %v", err, ErrManifest)
	}
	flip(t, path, 20)
	if _, err := openJournal(path, m.header); !errors.Is(err, ErrManifest) {
		t.Errorf("openJournal of a damaged one = %v, want %v", err, ErrManifest)
	}
}

func cut(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestAManifestThatWasChangedIsNotBelieved(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"a digest":   func(t *testing.T, path string) { flip(t, path, headerSize+40) },
		"its header": func(t *testing.T, path string) { flip(t, path, 3) },
		"its end":    func(t *testing.T, path string) { cut(t, path, 1) },
	} {
		m, _ := begun(t)
		if err := m.sealed(); !errors.Is(err, ErrManifest) {
			t.Errorf("a manifest without a seal: %v, want %v", err, ErrManifest)
		}
		if err := m.seal(); err != nil {
			t.Fatal(err)
		}
		path := m.f.Name()
		if err := isSealed(path); err != nil {
			t.Fatal(err)
		}
		spoil(t, path)
		if err := isSealed(path); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v, want %v", name, err, ErrManifest)
		}
	}
}

func isSealed(path string) error {
	m, err := openManifest(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer m.close()
	return m.sealed()
}

func TestChunksGrowWithTheDisk(t *testing.T) {
	for _, c := range []struct{ size, want int64 }{{0, 1 << 20}, {1 << 40, 1 << 20}, {1 << 42, 2 << 20}, {62 << 40, 16 << 20}} {
		if got := chunkFor(c.size); got != c.want {
			t.Errorf("chunkFor(%d) = %d, want %d", c.size, got, c.want)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(record{0, 2, 7}.bytes())
	f.Add(append(record{0, 1, 0}.bytes(), record{3, 1 << 40, 0}.bytes()...))
	f.Fuzz(func(t *testing.T, records []byte) {
		m, path := begun(t)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt(records, headerSize); err != nil {
			t.Fatal(err)
		}
		for _, r := range replayed(t, m, path) {
			if r.first < 0 || r.first+r.count > m.chunks() {
				t.Errorf("a run of %d chunks from %d on, of %d", r.count, r.first, m.chunks())
			}
		}
	})
}
