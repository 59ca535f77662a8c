package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// small is a raw initrd with one file.
func small(name string, body []byte) []byte {
	var a archiver
	a.add("etc", typeDir|0o755, nil)
	a.add(name, typeReg|0o644, body)
	return a.close()
}

func TestTheSameBytesAreParsedOnce(t *testing.T) {
	data := small("etc/one", []byte("a"))
	first, err := Parse(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(bytes.Clone(data), Limits{}); again != first || err != nil {
		t.Errorf("the same bytes are parsed again: %v", err)
	}
	changed, err := Parse(small("etc/one", []byte("b")), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := changed.ReadFile("etc/one"); string(got) != "b" || err != nil {
		t.Errorf("what changed reads as %q, %v", got, err)
	}
	if _, err := Parse(data, Limits{Entries: 1}); !errors.Is(err, ErrLimit) {
		t.Errorf("within other limits: %v, want %v", err, ErrLimit)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var r recent
	body := make([]byte, keptText)
	for i := range 2 * mostRemembered / keptText {
		data := small(fmt.Sprintf("etc/%d", i), body)
		rd, err := newUnpacker(Limits{}).parse(data)
		if err != nil {
			t.Fatal(err)
		}
		r.add(keyOf(data, Limits{}), rd)
		if r.find(keyOf(data, Limits{})) != rd {
			t.Fatalf("initrd %d is not remembered", i)
		}
		if r.memory() > mostRemembered {
			t.Fatalf("%d initrds take %d bytes", len(r.list), r.memory())
		}
	}
	if len(r.list) < 20 {
		t.Errorf("%d are remembered", len(r.list))
	}
	large := &Initrd{end: unpacker{tree: newTree(0), limits: Limits{Kept: mostRemembered + 1}}}
	r.add(key{}, large)
	if r.find(key{}) != nil || len(r.list) < 20 {
		t.Errorf("one that is too large is remembered instead of %d others", len(r.list))
	}
}

// goneOnWith compares what comes of data when their beginning is known with what
// comes of them alone, and tells whether it was known.
func goneOnWith(t *testing.T, data []byte, cut int64, limits Limits) bool {
	t.Helper()
	first, err := newUnpacker(limits).parse(data[:cut])
	if err != nil || !first.end.closed {
		return false
	}
	before := described(first)
	got, failed := first.end.on().parse(data)
	want, err := newUnpacker(limits).parse(data)
	if (failed == nil) != (err == nil) {
		t.Fatalf("known up to %d: %v; alone: %v", cut, failed, err)
	}
	if d := cmp.Diff(before, described(first)); d != "" {
		t.Errorf("the one that was known has changed:\n%s", d)
	}
	if err != nil {
		return true
	}
	if d := cmp.Diff(want.Members, got.Members); d != "" {
		t.Errorf("members, known up to %d:\n%s", cut, d)
	}
	if d := cmp.Diff(described(want), described(got)); d != "" {
		t.Errorf("files, known up to %d:\n%s", cut, d)
	}
	if got.Generator != want.Generator || !slices.Equal(got.Kernels, want.Kernels) || got.end.tree.room != want.end.tree.room {
		t.Errorf("known up to %d it is %+v, want %+v", cut, got, want)
	}
	return true
}

// described is all that is in an initrd.
func described(i *Initrd) []string {
	var list []string
	i.tree.below("", func(path string, n *node) {
		list = append(list, fmt.Sprintf("%s %o %d names, %d bytes %q %v %q", path, n.mode, n.names, n.size, n.target, n.kept, n.data))
	})
	return list
}

func TestWhatIsBehindAKnownInitrdIsParsedAlone(t *testing.T) {
	base := archiveOf(dir("etc"), file("etc/a", "1"), link("conf", "etc"), file("etc/b", "2"))
	more := archiveOf(dir("etc"), file("conf/a", "3"), dir("lib"), file("etc/b", ""))
	linked := hardLinks(file("x", "1"), file("y", ""))
	var a archiver
	a.add(trailer, 0, []byte("x"))
	endless := joined(base[:len(base)-len(archiveOf())], a.out.Bytes())
	for name, c := range map[string]struct {
		base  []byte
		known bool
	}{
		"raw": {base, true}, "raw, without a trailer": {base[:len(base)-len(archiveOf())], false},
		"raw, without its padding": {endless[:len(endless)-3], false},
		"hard links":               {linked, true}, "zeros behind": {joined(base, make([]byte, 8)), true},
		"gzip": {compressed(t, "gzip", base), true}, "xz": {compressed(t, "xz", base), true},
		"zstd": {compressed(t, "zstd", base), true}, "lz4": {compressed(t, "lz4", base), false},
	} {
		for _, tail := range [][]byte{more, linked, compressed(t, "gzip", more), compressed(t, "lz4", more), []byte("junk")} {
			if known := goneOnWith(t, joined(c.base, tail), int64(len(c.base)), Limits{}); known != c.known {
				t.Errorf("%s: known: %v, want %v", name, known, c.known)
			}
		}
	}
}

func TestASupplementedInitrdIsKnownByItsBeginning(t *testing.T) {
	base := compressed(t, "zstd", archiveOf(dir("etc"), file("etc/known", "by its beginning")))
	first, err := Parse(base, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	longer := joined(base, compressed(t, "zstd", archiveOf(dir("etc"), file("etc/more", "1"))))
	if u := latest.begin(longer, Limits{}); u.off != len(base) {
		t.Errorf("it is parsed from byte %d on, want %d", u.off, len(base))
	}
	other := bytes.Clone(longer)
	other[len(base)-1] ^= 1
	if u := latest.begin(other, Limits{}); u.off != 0 {
		t.Errorf("another is parsed from byte %d on", u.off)
	}
	both, err := Parse(longer, Limits{})
	if err != nil || !both.Has("etc/known") || !both.Has("etc/more") || first.Has("etc/more") {
		t.Errorf("the supplemented one is %+v, %v", both, err)
	}
	if _, err := first.ReadFile("etc/more"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the first has what the supplement brought: %v", err)
	}
}
