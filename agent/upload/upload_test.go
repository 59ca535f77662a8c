package upload

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// desk is a receiver into one folder, with a clock that the test turns.
type desk struct {
	*Receiver
	state, folder string
	now           time.Time
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{state: t.TempDir(), folder: t.TempDir(), now: time.Now()}
	d.again(t)
	return d
}

// again is a receiver of a process that was started again.
func (d *desk) again(t *testing.T) {
	t.Helper()
	var err error
	d.Receiver, err = New(d.state, func(key string) (*os.Root, string, error) {
		root, err := os.OpenRoot(d.folder)
		return root, key, err
	}, func() time.Time { return d.now })
	if err != nil {
		t.Fatal(err)
	}
}

// send brings a part of a content.
func (d *desk) send(t *testing.T, key string, whole []byte, first, length int, match string) (Upload, error) {
	t.Helper()
	sum := sha256.Sum256(whole)
	p := Part{First: int64(first), Length: int64(length), Size: int64(len(whole)), SHA256: sum[:], By: "ops"}
	return d.Take(t.Context(), key, p, bytes.NewReader(whole[first:first+length]), func(folder *os.Root, part string) error {
		return Place(folder, part, key, match)
	})
}

func (d *desk) read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// names are the files in the folder.
func (d *desk) names(t *testing.T) string {
	t.Helper()
	list, err := os.ReadDir(d.folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestPartsMakeAFileAcrossRestarts(t *testing.T) {
	d := newDesk(t)
	whole := random(3<<20 + 17)
	for _, part := range [][2]int{{0, 1 << 20}, {1 << 20, 1}, {1<<20 + 1, 1 << 20}} {
		u, err := d.send(t, "a.vmdk", whole, part[0], part[1], "")
		if err != nil || u.Offset != int64(part[0]+part[1]) {
			t.Fatalf("part %v: %+v, %v", part, u, err)
		}
		if got := d.names(t); got != "a.vmdk.part" {
			t.Fatalf("before it is whole there are %s", got)
		}
		d.again(t)
	}
	at, err := d.Read("a.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.send(t, "a.vmdk", whole, int(at.Offset), len(whole)-int(at.Offset), ""); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.read(t, "a.vmdk"), whole) || d.names(t) != "a.vmdk" {
		t.Errorf("the file is another; there are %s", d.names(t))
	}
	if _, err := d.Read("a.vmdk"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its record stays: %v", err)
	}
}

// broken is a connection that breaks after some bytes.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestWhatCameOfABrokenPartIsKept(t *testing.T) {
	d := newDesk(t)
	whole := random(1 << 20)
	sum := sha256.Sum256(whole)
	u, err := d.Take(t.Context(), "a", Part{Length: 1 << 20, Size: 1 << 20, SHA256: sum[:]}, broken{bytes.NewReader(whole[:300_001])}, nil)
	if !errors.Is(err, ErrShort) || u.Offset != 300_001 {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := d.send(t, "a", whole, 300_001, 1<<20-300_001, ""); err != nil || !bytes.Equal(d.read(t, "a"), whole) {
		t.Errorf("gone on with: %v", err)
	}
}

// TestBytesThatNoRecordTellsOfAreSentAgain: the appliance was killed after it had
// written them, and before it was kept.
func TestBytesThatNoRecordTellsOfAreSentAgain(t *testing.T) {
	d := newDesk(t)
	whole := random(1000)
	if _, err := d.send(t, "a", whole, 0, 500, ""); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(d.folder, "a.part"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, 700)) // more than what is still to come
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.send(t, "a", whole, 500, 500, ""); err != nil || !bytes.Equal(d.read(t, "a"), whole) {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeTaken(t *testing.T) {
	whole := random(1000)
	other := random(999)
	for name, c := range map[string]struct {
		before func(d *desk) error
		key    string
		part   [2]int
		whole  []byte
		want   error
		left   string
	}{
		"a gap":                {nil, "a", [2]int{600, 100}, whole, ErrOffset, "a.part"},
		"another size":         {nil, "a", [2]int{0, 100}, other, ErrOther, "a.part"},
		"another content":      {nil, "a", [2]int{500, 100}, random(1000 + 1)[:1000], ErrOther, "a.part"},
		"nothing":              {nil, "a", [2]int{500, 0}, whole, ErrInput, "a.part"},
		"a stranger's .part":   {func(d *desk) error { return os.WriteFile(filepath.Join(d.folder, "b.part"), nil, 0o600) }, "b", [2]int{0, 100}, whole, ErrForeign, "a.part b.part"},
		"a .part cut short":    {func(d *desk) error { return os.Truncate(filepath.Join(d.folder, "a.part"), 3) }, "a", [2]int{500, 100}, whole, ErrOther, "a.part"},
		"a file that is there": {func(d *desk) error { return os.WriteFile(filepath.Join(d.folder, "a"), nil, 0o600) }, "a", [2]int{500, 500}, whole, ErrExists, "a a.part"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			if _, err := d.send(t, "a", whole, 0, 500, ""); err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				if err := c.before(d); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := d.send(t, c.key, c.whole, c.part[0], c.part[1], ""); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got := d.names(t); got != c.left {
				t.Errorf("left are %s, want %s", got, c.left)
			}
		})
	}
}

func TestAFileThatCameOtherwiseIsRemoved(t *testing.T) {
	d := newDesk(t)
	whole := random(1000)
	sum := sha256.Sum256(whole[1:])
	_, err := d.Take(t.Context(), "a", Part{Length: 1000, Size: 1000, SHA256: sum[:]}, bytes.NewReader(whole), func(*os.Root, string) error {
		t.Error("it is accepted")
		return nil
	})
	if !errors.Is(err, ErrDigest) || d.names(t) != "" {
		t.Errorf("%v; left are %s", err, d.names(t))
	}
	if list, err := d.List(); err != nil || len(list) != 0 {
		t.Errorf("its record stays: %v, %v", list, err)
	}
	if _, err := d.Take(t.Context(), "a", Part{Length: 1000, Size: 1000}, bytes.NewReader(whole), nil); !errors.Is(err, ErrInput) {
		t.Errorf("without a digest: %v", err)
	}
}

func TestAFileIsReplacedByWhoHasSeenIt(t *testing.T) {
	d := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.folder, "a"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(d.folder, "a"))
	if err != nil {
		t.Fatal(err)
	}
	whole := random(1000)
	if _, err := d.send(t, "a", whole, 0, 1000, `"0-0"`); !errors.Is(err, ErrMatch) {
		t.Errorf("another version: %v", err)
	}
	if u, err := d.Read("a"); err != nil || u.Offset != 1000 {
		t.Fatalf("what came is %+v, %v", u, err)
	}
	if _, err := d.send(t, "a", whole, 1000, 0, Tag(info)); err != nil || !bytes.Equal(d.read(t, "a"), whole) {
		t.Errorf("put in place: %v", err)
	}
	if _, err := d.send(t, "b", whole, 0, 1000, "*"); !errors.Is(err, ErrMatch) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestWhatDoesNotGoOnIsRemoved(t *testing.T) {
	d := newDesk(t)
	whole := random(1000)
	for _, key := range []string{"old", "new", "dropped"} {
		if _, err := d.send(t, key, whole, 0, 500, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Drop("dropped"); err != nil || d.names(t) != "new.part old.part" {
		t.Fatalf("dropped: %v; left are %s", err, d.names(t))
	}
	if err := d.Drop("dropped"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dropped twice: %v", err)
	}
	d.now = d.now.Add(Kept - time.Hour)
	if _, err := d.send(t, "new", whole, 500, 100, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(); err != nil || d.names(t) != "new.part old.part" {
		t.Errorf("too early: %v; left are %s", err, d.names(t))
	}
	d.now = d.now.Add(2 * time.Hour)
	if err := d.Sweep(); err != nil || d.names(t) != "new.part" {
		t.Errorf("%v; left are %s", err, d.names(t))
	}
}

func FuzzHeaders(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes */10", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "sha-512=:x:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", "bytes 5-4/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if first, length, size, err := ParseRange(text); err == nil {
			if check := (Part{First: first, Length: length, Size: size}).check(); check != nil && size > 0 && size <= MaxSize && length <= MaxPart {
				t.Errorf("%q is %d, %d, %d: %v", text, first, length, size, check)
			}
		}
		if sum, err := ParseDigest(text); err == nil && text != "" {
			if again, err := ParseDigest(Digest(sum)); err != nil || !bytes.Equal(again, sum) {
				t.Errorf("%q is %x, and again %x, %v", text, sum, again, err)
			}
		}
	})
}
