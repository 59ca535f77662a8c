package disk

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
)

// Elsewhere reads a VMDK whose files lie on another machine. The descriptors are
// those of a chain, the nearest first, by names with slashes between folders; every
// other file lies in the folder of the descriptor that names it. A file that open does
// not find is the error that it returns; other errors are as ReadChain's. Whether
// files are as long as their tables say shows when they are read.
func Elsewhere(ctx context.Context, descriptors []string, open func(ctx context.Context, name string) (File, error)) (_ Remote, err error) {
	if len(descriptors) == 0 || len(descriptors) > maxLinks {
		return nil, fmt.Errorf("%w: it is a chain of %d disks", ErrChain, len(descriptors))
	}
	e := &elsewhere{opener: open, Content: &Content{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	var links []link
	for _, name := range descriptors {
		l, err := e.link(ctx, name)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	e.size = links[0].Sectors() * sectorSize
	return e, linked(links)
}

// linked refuses disks that are no chain.
func linked(links []link) error {
	for i, l := range links[:len(links)-1] {
		if !l.snapshot() {
			return fmt.Errorf("%s: %w: it stands on no other disk", l.path, ErrChain)
		}
		if err := l.standsOn(links[i+1]); err != nil {
			return err
		}
	}
	if l := links[len(links)-1]; l.snapshot() {
		return fmt.Errorf("%s: %w: it is a snapshot of %q, which is not named", l.path, ErrChain, l.ParentHint)
	}
	return nil
}

// elsewhere is a disk whose files lie on another machine.
type elsewhere struct {
	*Content
	opener func(ctx context.Context, name string) (File, error)
}

// link opens a VMDK of the chain and the files of its extents, and adds its layer.
func (e *elsewhere) link(ctx context.Context, name string) (l link, err error) {
	f, err := e.opener(ctx, name)
	if err != nil {
		return l, err
	}
	l, err = parseLink(readerAt(ctx, f), f.Size(), name)
	if err == nil && l.single {
		e.files = append(e.files, f)
		e.layers = append(e.layers, l.parts[0].behind(nil, &tabled{File: f, pieces: map[int64][]byte{}}))
		return l, nil
	}
	if errors.Is(err, errPart) {
		err = fmt.Errorf("%w: it is no descriptor of a VMDK", ErrNotADisk)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return l, fmt.Errorf("%s: %w", name, err)
	}
	return l, e.parts(ctx, l)
}

// parts opens the files of a link's extents.
func (e *elsewhere) parts(ctx context.Context, l link) error {
	var layer []stretch
	for i, extent := range l.Extents {
		p := part{Extent: extent}
		f, err := e.part(ctx, l.path, &p, i == len(l.Extents)-1)
		if err != nil {
			return err
		}
		layer = p.behind(layer, f)
	}
	e.layers = append(e.layers, layer)
	return nil
}

// part opens the file of an extent; nil for one without.
func (e *elsewhere) part(ctx context.Context, descriptor string, p *part, last bool) (File, error) {
	if p.Kind == Zero {
		return nil, nil
	}
	if strings.ContainsAny(p.File, `/\`) || p.File == "." || p.File == ".." {
		return nil, fmt.Errorf("%s: %w: its extent %q is in another folder", descriptor, ErrChain, p.File)
	}
	name := path.Join(path.Dir(descriptor), p.File)
	f, err := e.opener(ctx, name)
	if err != nil {
		return nil, err
	}
	e.files = append(e.files, f)
	if p.Kind.flat() {
		if want := (p.Offset + p.Sectors) * sectorSize; f.Size() < want {
			return nil, fmt.Errorf("%s: %w: it has %d bytes of %d", name, ErrTruncated, f.Size(), want)
		}
		return f, nil
	}
	if err := p.header(readerAt(ctx, f), f.Size(), last); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &tabled{File: f, pieces: map[int64][]byte{}}, nil
}

// Extents are what of n bytes from off on may be data, in order and without gaps: at
// least one, and not always all.
func (e *elsewhere) Extents(ctx context.Context, off, n int64) ([]Allocation, error) {
	if err := e.holds(off, n); err != nil {
		return nil, err
	}
	return e.extents(ctx, off, n)
}
