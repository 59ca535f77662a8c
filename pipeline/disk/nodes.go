package disk

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// node is how QEMU opens the link without its parent, as it was checked by
// opening it. The files for it that are not the disk's own begin with base.
func (l link) node(ctx context.Context, base string) (blockdev, error) {
	file, want := l.path, []string{l.path}
	if !l.single {
		var err error
		if file, want, err = l.write(base); err != nil {
			return nil, err
		}
	}
	n := blockdev{"driver": VMDK, "read-only": true, "file": fileNode(file), "backing": nil}
	image, err := describe(ctx, n)
	if err != nil {
		return nil, unreadable(l.path, VMDK, err)
	}
	return n, l.checkOpened(image, want)
}

// write makes a descriptor of what was found, beside links to the extents'
// files, and returns it and them: a descriptor cannot hold every file's name.
func (l link) write(base string) (descriptor string, files []string, err error) {
	name := func(i int) string { return fmt.Sprintf("%s-extent%d", base, i) }
	for i, p := range l.parts {
		files = append(files, name(i))
		if p.Kind == Zero {
			err = zeroes(name(i), p.Sectors*sectorSize)
		} else {
			err = os.Symlink(p.path, name(i))
		}
		if err != nil {
			return "", nil, err
		}
	}
	descriptor = base + ".vmdk"
	return descriptor, files, os.WriteFile(descriptor, []byte(l.text(func(i int) string { return filepath.Base(name(i)) })), 0o600)
}

// zeroes makes a file of zeros that takes no room.
func zeroes(path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// checkOpened refuses a VMDK of which QEMU understood something else than was
// read here: other files, other sizes, another content ID. What was read is the
// better error; what QEMU opened is the truth.
func (l link) checkOpened(image Image, want []string) error {
	var s struct {
		Data struct {
			CID       uint32 `json:"cid"`
			ParentCID uint32 `json:"parent-cid"`
			Extents   []struct {
				Filename string `json:"filename"`
			} `json:"extents"`
		} `json:"data"`
	}
	if err := json.Unmarshal(image.Specific, &s); err != nil {
		return fmt.Errorf("%s: %w: QEMU does not say what it is made of: %w", l.path, ErrNotADisk, err)
	}
	var got []string
	for _, e := range s.Data.Extents {
		got = append(got, e.Filename)
	}
	switch size := (l.Sectors() + l.padding()) * sectorSize; {
	case !slices.Equal(got, want):
		return fmt.Errorf("%s: %w: QEMU would read %q, its descriptor names %q", l.path, ErrChain, got, want)
	case image.VirtualSize != size:
		return fmt.Errorf("%s: %w: QEMU reads %d bytes, its descriptor names %d", l.path, ErrNotADisk, image.VirtualSize, size)
	case s.Data.CID != l.CID || s.Data.ParentCID != l.ParentCID:
		return fmt.Errorf("%s: %w: QEMU reads the content IDs %08x and %08x in it", l.path, ErrNotADisk, s.Data.CID, s.Data.ParentCID)
	}
	return nil
}
