package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// link is one VMDK of a chain: a descriptor and the files of its extents, or a
// sparse extent that holds its descriptor.
type link struct {
	Descriptor
	path   string // real
	single bool   // it is one sparse file with its descriptor inside
	parts  []part // one for each extent
}

// part is an extent and the file that holds it.
type part struct {
	Extent
	path   string  // real; "" for ZERO
	sparse *sparse // of an extent that is not flat
}

// readLink reads a VMDK's header, its descriptor and its extents' headers.
func readLink(path string, allowed []string) (l link, err error) {
	f, size, err := openSized(path)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	l, err = parseLink(f, size, path)
	if errors.Is(err, errPart) {
		return l, partOf(path)
	}
	if err != nil || l.single {
		return l, err
	}
	return l, l.findParts(allowed)
}

// parseLink reads the header and the descriptor in a file of size bytes. What the
// extents are that lie in other files is not read yet.
func parseLink(f io.ReaderAt, size int64, path string) (l link, err error) {
	s, err := readSparse(f, size)
	if err != nil {
		return l, err
	}
	text, err := descriptorText(f, size, s)
	if err != nil {
		return l, err
	}
	l = link{path: path, single: s != nil && !s.nested}
	if l.Descriptor, err = ParseDescriptor(text); err != nil {
		return l, err
	}
	if err := l.refusal(filepath.Base(path)); err != nil || !l.single {
		return l, err
	}
	l.parts = []part{{Extent: l.Extents[0], path: path, sparse: s}}
	return l, l.checkSingle()
}

// openSized opens a file to read it, and tells its size in bytes.
func openSized(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// errPart is a file that holds data of a disk and no descriptor.
var errPart = errors.New("part of a disk")

func descriptorText(f io.ReaderAt, size int64, s *sparse) ([]byte, error) {
	at, room := int64(0), size
	switch {
	case s == nil && size > maxDescriptor, s != nil && s.text == 0:
		return nil, errPart
	case s != nil && !s.nested && s.text != 1: // QEMU looks for it at the second sector
		return nil, fmt.Errorf("%w: its descriptor is at sector %d, where no program of VMware's puts it", ErrNotADisk, s.text)
	case s != nil:
		at, room = s.text*sectorSize, s.room*sectorSize
	}
	if size < at+room {
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, size, at+room)
	}
	return io.ReadAll(io.NewSectionReader(f, at, min(room, maxDescriptor)))
}

// partName is how VMware names the files of a disk's data after its descriptor.
var partName = regexp.MustCompile(`(?i)-(flat|delta|sesparse|ctk|rdmp?|[sf]\d{3,})(\.vmdk)$`)

// descriptorOf is the file beside it that describes the disk of which a file
// has the data, by VMware's names; "" if there is none.
func descriptorOf(path string) string {
	name := partName.ReplaceAllString(filepath.Base(path), "$2")
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), name)); err != nil || name == filepath.Base(path) {
		return ""
	}
	return name
}

// partOf says which file to give instead of one that holds data alone.
func partOf(path string) error {
	name := filepath.Base(path)
	if descriptor := descriptorOf(path); descriptor != "" {
		return fmt.Errorf("%w: it holds data of the disk that %s describes; give that file", ErrNotADisk, descriptor)
	}
	if partName.MatchString(name) {
		return fmt.Errorf("%w: it holds data of the disk that %s describes, which is missing; copy that file too and give it", ErrNotADisk, partName.ReplaceAllString(name, "$2"))
	}
	return fmt.Errorf("%w: it holds data without a descriptor; give the small .vmdk file that describes the disk, or the data of a whole disk in a file that ends in .raw", ErrNotADisk)
}

// checkSingle compares what the descriptor inside says with the header. The
// name in it may be an older one of the file.
func (l link) checkSingle() error {
	if len(l.Extents) != 1 || l.Extents[0].Kind != Sparse {
		return fmt.Errorf("%w: it holds its data itself, and its descriptor names %d extents, the first of them %s", ErrNotADisk, len(l.Extents), l.Extents[0].Kind)
	}
	return l.parts[0].agree(true)
}

func (l *link) findParts(allowed []string) error {
	f, err := foldersOf(l.path, allowed)
	if err != nil {
		return err
	}
	for i, e := range l.Extents {
		p := part{Extent: e}
		if e.Kind != Zero {
			if p.path, err = f.find(e.File, l.path); err != nil {
				return fmt.Errorf("its data are in %q: %w", e.File, err)
			}
			if err := p.open(i == len(l.Extents)-1); err != nil {
				return fmt.Errorf("its data are in %q: %w", e.File, err)
			}
		}
		l.parts = append(l.parts, p)
	}
	return nil
}

// open reads the header of an extent that is not flat.
func (p *part) open(last bool) (err error) {
	if p.Kind.flat() {
		return nil
	}
	f, size, err := openSized(p.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.header(f, size, last)
}

// header reads that of an extent in a file of size bytes.
func (p *part) header(f io.ReaderAt, size int64, last bool) (err error) {
	if p.sparse, err = readSparse(f, size); err != nil {
		return err
	}
	switch s := p.sparse; {
	case size == 0:
		return fmt.Errorf("%w: it is empty", ErrTruncated)
	case s == nil || s.nested || (s.kind == SESparse) != (p.Kind == SESparse):
		return fmt.Errorf("%w: it is not the %s extent that the descriptor says it is", ErrNotADisk, p.Kind)
	case s.compressed: // QEMU looks for the footer in the descriptor
		return fmt.Errorf("%w: it is a compressed part of a split disk; clone the disk in VMware to another type", ErrNotADisk)
	}
	return p.agree(last)
}

// agree compares the extent's size in the descriptor with that in its header.
// The last extent's header may round it up to whole grains.
func (p part) agree(last bool) error {
	padding := p.sparse.capacity - p.Sectors
	if padding < 0 || padding >= p.sparse.grain || padding > 0 && !last {
		return fmt.Errorf("%w: its descriptor says that it has %d sectors, its header %d", ErrNotADisk, p.Sectors, p.sparse.capacity)
	}
	return nil
}
