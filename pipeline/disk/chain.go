package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hyper2kvm/pipeline/proc"
)

// maxLinks is how many snapshots are read over one disk. ESXi supports 32 of
// them, Workstation about a hundred.
//
// Source: Broadcom KB 1025279; Workstation Pro, "Using Snapshots".
const maxLinks = 128

// Chain is a disk with all that its bytes are in: its own files and, below a
// snapshot, those of the disks that it stands on. Everything was found by
// reading headers and descriptors; QEMU opens these files and no others.
type Chain struct {
	Path   string // of the file that names the disk
	Format string // QEMU's name
	Size   int64  // virtual size in bytes
	links  []link // of a VMDK: the disk first, then each one's parent
}

// ReadChain finds what a disk is made of. The other files of a VMDK lie in its
// own folder, or below, or in the folders that are allowed; disks of
// other formats that stand on other files are refused. The errors are sentences for people:
// ErrChain for other files that cannot be taken, ErrEncrypted, ErrDevice,
// ErrTruncated, ErrNotADisk.
func ReadChain(ctx context.Context, path, format string, allowed []string) (*Chain, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c := &Chain{Path: path, Format: format}
	switch format {
	case Raw:
		c.Size, err = rawSize(path)
		return c, err
	case VMDK:
		if descriptorOf(path) != "" { // what it begins with was written by a guest
			return nil, fmt.Errorf("%s: %w", path, partOf(path))
		}
		if c.links, err = readLinks(ctx, path, allowed); err != nil {
			return nil, err
		}
		c.Size = c.links[0].Sectors() * sectorSize
		return c, nil
	}
	image, err := Describe(ctx, path, format)
	switch {
	case err != nil:
		return nil, unreadable(path, format, err)
	case image.Backing != "":
		return nil, fmt.Errorf("%s: %w: its backing file is %q; flatten it first: qemu-img convert -O qcow2 %s NEW.qcow2", path, ErrChain, image.Backing, filepath.Base(path))
	case external(image.Specific):
		return nil, fmt.Errorf("%s: %w: its data are in another file; flatten it first: qemu-img convert -O qcow2 %s NEW.qcow2", path, ErrChain, filepath.Base(path))
	}
	c.Size = image.VirtualSize
	return c, nil
}

// rawSize is what a file or a device without a format holds, in whole sectors, as
// QEMU reads it.
func rawSize(path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	size, err = f.Seek(0, io.SeekEnd)
	return pieces(size, sectorSize) * sectorSize, errors.Join(err, f.Close())
}

// unreadable says of a disk that QEMU cannot read what to do.
func unreadable(path, format string, err error) error {
	if failure, ok := errors.AsType[*proc.Error](err); ok {
		return fmt.Errorf("%s cannot be read as %s; copy it from the source again, whole: %w", path, format, failure)
	}
	return err
}

// Files are the files that hold the disk's bytes: the one that names it first.
func (c *Chain) Files() []string {
	files := []string{c.Path}
	for _, l := range c.links {
		files = append(files, l.path)
		for _, p := range l.parts {
			files = append(files, p.path)
		}
	}
	var list []string
	for _, f := range files {
		if f != "" && !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

// Kind is the disk's format as VMware names it.
func (c *Chain) Kind() string {
	if len(c.links) == 0 {
		return c.Format
	}
	return c.links[0].CreateType
}

// Parents are the disks below a snapshot, the one that it was taken of first.
func (c *Chain) Parents() (list []string) {
	for i := 1; i < len(c.links); i++ {
		list = append(list, c.links[i].path)
	}
	return list
}

// Dirty are the files that the program that wrote them did not close: VMware
// still has them open, or it crashed.
func (c *Chain) Dirty() (list []string) {
	for _, l := range c.links {
		for _, p := range l.parts {
			if p.sparse != nil && p.sparse.dirty {
				list = append(list, p.path)
			}
		}
	}
	return list
}

// readLinks reads a VMDK and the disks that it stands on.
func readLinks(ctx context.Context, path string, allowed []string) ([]link, error) {
	path, err := existing(path)
	if err == nil && path == "" {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	var links []link
	for path != "" {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		l, err := readLink(path, allowed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(links) > 0 {
			if err := links[len(links)-1].standsOn(l); err != nil {
				return nil, err
			}
		}
		links = append(links, l)
		if path, err = nextLink(links, allowed); err != nil {
			return nil, fmt.Errorf("%s: %w", l.path, err)
		}
	}
	return links, nil
}

// nextLink is the file of the parent of the last link; "" if it has none.
func nextLink(links []link, allowed []string) (string, error) {
	last := links[len(links)-1]
	if !last.snapshot() {
		return "", nil
	}
	if len(links) > maxLinks {
		return "", fmt.Errorf("%w: it is the %dth snapshot over one another; delete snapshots in VMware, which consolidates them, and copy the disk again", ErrChain, len(links))
	}
	f, err := foldersOf(last.path, allowed)
	if err != nil {
		return "", err
	}
	parent, err := f.find(last.ParentHint, last.path)
	if err != nil {
		return "", fmt.Errorf("it is a snapshot of %q: %w", last.ParentHint, err)
	}
	if slices.ContainsFunc(links, func(l link) bool { return l.path == parent }) {
		return "", fmt.Errorf("%w: it is a snapshot of %q, which stands on it: they go round in a loop; restore the descriptors from a backup", ErrChain, last.ParentHint)
	}
	return parent, nil
}

// standsOn refuses a parent that is not the one that the snapshot was taken of:
// what it says and the snapshot does not would be another disk's, or newer.
func (l link) standsOn(parent link) error {
	if parent.CID != l.ParentCID {
		return fmt.Errorf("%s: %w: its parent %s was written after the snapshot was taken (its content ID is %08x, the snapshot's is %08x); restore both from one backup",
			l.path, ErrChain, parent.path, parent.CID, l.ParentCID)
	}
	if parent.Sectors() != l.Sectors() {
		return fmt.Errorf("%s: %w: its parent %s has %d sectors and it has %d: it is a snapshot of another disk", l.path, ErrChain, parent.path, parent.Sectors(), l.Sectors())
	}
	return nil
}
