// Package initrd reads guests' initrds and makes supplements for them.
//
// Initrd: what a Linux guest's boot loader hands to its kernel: archives, one
// after the other, that are unpacked into the kernel's first root. Member: one
// of these archives, raw or compressed; zeros may stand between them. Early
// member: the uncompressed one in front that holds microcode or ACPI tables.
// Generator: the guest's program that made the initrd. Supplement: one more
// member, appended, that brings modules, indexes and settings which are missing;
// the kernel unpacks members in order and later files win.
//
// An initrd is parsed as the kernel unpacks it (init/initramfs.c): parents must
// exist, a name of another type is unlinked first, symlinks are followed in
// folders, hard links share contents. No guest code is run and no program is
// started. Everything read is bounded by Limits.
//
// The newc reader is our own, not u-root's pkg/cpio: that one needs a ReaderAt
// over the whole unpacked member, allocates up to 4 GiB for a name because a
// header says so, rejects the 070702 magic, cleans names (the kernel does not),
// and its writer hides how files link to each other.
package initrd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// ErrFormat is an initrd that the kernel would not unpack to its end.
var ErrFormat = errors.New("not a cpio initrd")

// ErrLimit is an initrd that exceeds a limit.
var ErrLimit = errors.New("initrd exceeds a limit")

// ErrNotKept is a file whose contents Parse did not keep: it is no
// configuration, or too large.
var ErrNotKept = errors.New("contents are not kept")

// ErrNested is an initrd whose files are inside an image of their own (dracut's
// squash modules). What is inside is not seen and cannot be supplemented.
var ErrNested = errors.New("initrd keeps its files in a nested image")

// Limits bounds what Parse accepts. A zero field means its default.
type Limits struct {
	Unpacked int64 // bytes of all members, decompressed; 1 GiB
	Entries  int   // entries of all members; 200 000
	Members  int   // 256
	Kept     int64 // bytes of contents kept in memory; 64 MiB
}

func (l Limits) filled() Limits {
	if l.Unpacked == 0 {
		l.Unpacked = 1 << 30
	}
	if l.Entries == 0 {
		l.Entries = 200_000
	}
	if l.Members == 0 {
		l.Members = 256
	}
	if l.Kept == 0 {
		l.Kept = 64 << 20
	}
	return l
}

// Member is one archive of an initrd.
type Member struct {
	Offset      int64  // where it starts in the initrd
	Size        int64  // bytes as stored, without the zeros behind it
	Unpacked    int64  // bytes when decompressed
	Compression string // none, gzip, bzip2, lzma, xz, lzo, lz4 or zstd
	Entries     int    // without trailers
	Early       bool   // holds microcode or ACPI tables
}

// Initrd is a parsed initrd: what the kernel's first root holds once all members
// are unpacked. It is not changed after Parse and may be read concurrently.
type Initrd struct {
	Size      int64    // bytes of the whole initrd; a supplement starts here
	Members   []Member // in order
	Generator string   // initramfs-tools, dracut, mkinitcpio, suse-mkinitrd, mkinitfs, booster, or "" when not known
	Evidence  string   // the file that tells the generator
	Kernels   []string // versions that have a folder under lib/modules, sorted
	Nested    []string // images inside whose contents are not seen

	tree *tree
	end  unpacker // behind it, without the data
}

// File is what is known of a file in an initrd.
type File struct {
	Path   string // its name when all symlinks are resolved
	Mode   fs.FileMode
	Size   int64
	Target string // of a symlink
}

// Parse reads an initrd. An error wraps ErrFormat when the kernel would stop as
// well or the initrd is cut short, and ErrLimit when it is larger than limits. The
// same bytes may give the same Initrd again.
func Parse(data []byte, limits Limits) (*Initrd, error) {
	k := keyOf(data, limits)
	if i := latest.find(k); i != nil {
		return i, nil
	}
	i, err := latest.begin(data, limits).parse(data)
	if err == nil {
		latest.add(k, i)
	}
	return i, err
}

func newUnpacker(limits Limits) *unpacker {
	limits = limits.filled()
	return &unpacker{limits: limits, tree: newTree(limits.Kept)}
}

// parse goes on with data to their end, from where it is in them.
func (u *unpacker) parse(data []byte) (*Initrd, error) {
	u.data = data
	for u.next() {
		if err := u.member(); err != nil {
			return nil, fmt.Errorf("member %d at byte %d: %w", len(u.members)+1, u.start, err)
		}
	}
	if len(u.members) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	}
	i := &Initrd{Size: int64(len(data)), Members: u.members, tree: u.tree, end: *u}
	i.end.data = nil
	i.Generator, i.Evidence = i.generator()
	i.Kernels = i.kernels()
	i.Nested = i.nested()
	return i, nil
}

// Has reports whether name exists; symlinks are followed.
func (i *Initrd) Has(name string) bool {
	at, ok := i.tree.walk(name, true)
	return ok && at.node != nil
}

// Lookup describes name; symlinks in folders are followed, name itself is not.
func (i *Initrd) Lookup(name string) (File, bool) {
	at, ok := i.tree.walk(name, false)
	if !ok || at.node == nil {
		return File{}, false
	}
	return at.file(), true
}

// ReadFile returns the contents of a file that Parse kept; symlinks are
// followed. It fails with fs.ErrNotExist or ErrNotKept.
func (i *Initrd) ReadFile(name string) ([]byte, error) {
	at, ok := i.tree.walk(name, true)
	if !ok || at.node == nil || !at.node.regular() {
		return nil, fmt.Errorf("%s in the initrd: %w", name, fs.ErrNotExist)
	}
	if !at.node.kept {
		return nil, fmt.Errorf("%s in the initrd: %w", at.path, ErrNotKept)
	}
	return at.node.data, nil
}

// Resolve returns where name ends up when the initrd's own symlinks are
// followed, existing or not: "lib/modules" is "usr/lib/modules" where lib is a
// symlink to usr/lib. It reports false for a loop and for a path through a file.
func (i *Initrd) Resolve(name string) (string, bool) {
	at, ok := i.tree.walk(name, true)
	return at.path, ok
}

// unpacker walks over the members of an initrd.
type unpacker struct {
	data    []byte
	limits  Limits
	tree    *tree
	members []Member
	start   int // of the member at hand
	off     int // of the byte to be read next
	entries int
	total   int64 // unpacked bytes of the members so far
	closed  bool  // the last member's end does not depend on what is behind it
}

// next skips zeros and reports whether a member follows.
func (u *unpacker) next() bool {
	for u.off < len(u.data) && u.data[u.off] == 0 {
		u.off++
	}
	u.start = u.off
	return u.off < len(u.data)
}

// member unpacks the member at off and moves off behind it.
func (u *unpacker) member() error {
	if len(u.members) == u.limits.Members {
		return fmt.Errorf("%w: more than %d members", ErrLimit, u.limits.Members)
	}
	u.closed = false
	rest := u.data[u.off:]
	m := Member{Offset: int64(u.start), Compression: "none"}
	if rest[0] == '0' && u.off%4 == 0 {
		return u.raw(rest, m)
	}
	c, ok := codecOf(rest)
	if !ok {
		return fmt.Errorf("%w: junk %x", ErrFormat, rest[:min(8, len(rest))])
	}
	m.Compression = c.name
	packed, err := c.open(rest)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c.name, ErrFormat, err)
	}
	defer packed.close()
	if err := u.archive(&stream{r: guarded{packed}, limit: u.limits.Unpacked - u.total}, &m); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	u.done(m, packed.consumed())
	u.closed = c.closed
	return nil
}

func (u *unpacker) raw(rest []byte, m Member) error {
	s := &stream{r: newBytes(rest), limit: u.limits.Unpacked - u.total, raw: true}
	if err := u.archive(s, &m); err != nil {
		return err
	}
	u.done(m, int(s.pos))
	return nil
}

func (u *unpacker) done(m Member, size int) {
	m.Size = int64(size)
	u.total += m.Unpacked
	u.off += size
	u.members = append(u.members, m)
}

// on is a copy that goes on independently.
func (u unpacker) on() *unpacker {
	u.members, u.tree = slices.Clone(u.members), u.tree.clone()
	return &u
}

// archive reads the entries of a member into the tree. A raw member ends with
// its trailer or where something else than an entry begins, a compressed one at
// its end.
func (u *unpacker) archive(s *stream, m *Member) error {
	for {
		e, err := s.entry()
		if errors.Is(err, io.EOF) {
			m.Unpacked = s.pos
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.entry(s, e, m); err != nil {
			return err
		}
		if err := s.skip(e); err != nil {
			return err
		}
		if e.name == trailer && s.raw {
			m.Unpacked, u.closed = s.pos, s.pos == e.end
			return nil
		}
	}
}

func (u *unpacker) entry(s *stream, e entry, m *Member) error {
	if e.name == trailer {
		u.tree.forgetLinks()
		return nil
	}
	u.entries++
	if u.entries > u.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrLimit, u.limits.Entries)
	}
	m.Entries++
	m.Early = m.Early || early(e.name)
	if e.name == "" {
		return nil
	}
	return u.tree.add(e, s.body(e))
}
