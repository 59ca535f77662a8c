package downloads

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/agent/upload"
	"hyper2kvm/pipeline/proc"
)

// raw is the recipe of a raw image: the appliance's partitions where they are on the base,
// and the seed volume behind them.
func (k *Keeper) raw(ctx context.Context, base *model.Place, seed firstboot.Seed) (*recipe, error) {
	volume, size, err := volumeOf(ctx, seed)
	if err != nil {
		return nil, err
	}
	if base == nil {
		return k.rawOfOwn(ctx, volume, size)
	}
	return k.rawOfFile(*base, volume, size)
}

// volumeOf is a seed as a FAT file system, without the zeroes at its end, and its size
// with them.
func volumeOf(ctx context.Context, seed firstboot.Seed) (volume []byte, size int64, err error) {
	folder, err := proc.PrivateDir()
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path := filepath.Join(folder, "seed")
	if err := seed.Write(ctx, path, firstboot.FAT, false); err != nil {
		return nil, 0, err
	}
	volume, err = os.ReadFile(path)
	return bytes.TrimRight(volume, "\x00"), int64(len(volume)), err
}

// rawOfOwn is made of the appliance's own disk. What the firmware starts from may be
// written while somebody fetches it, and is kept as it is now; the root cannot be.
func (k *Keeper) rawOfOwn(ctx context.Context, volume []byte, size int64) (*recipe, error) {
	h, err := k.Machine.home()
	if err != nil {
		return nil, err
	}
	from := map[int]string{}
	for _, p := range h.parts {
		from[p.Index] = fromDisk + strings.ToLower(p.GUID)
		if slices.Contains(bootTypes, p.Type) {
			name, err := k.keepCopy(ctx, h.nodes[p.Index], p)
			if err != nil {
				return nil, err
			}
			from[p.Index] = fromKept + name
		}
	}
	r := &recipe{}
	return r, r.compose(&h.layout, volume, size, func(p *gpt.Partition) (string, int64) { return from[p.Index], 0 })
}

// zstdMagic begins what is compressed.
// Source: RFC 8878, 3.1.1.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// rawOfFile is made of a raw image that lies in a storage.
func (k *Keeper) rawOfFile(base model.Place, volume []byte, size int64) (*recipe, error) {
	f, err := k.base(base)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	magic := make([]byte, len(zstdMagic))
	if _, err := f.ReadAt(magic, 0); err == nil && bytes.Equal(magic, zstdMagic) {
		return nil, fmt.Errorf("%w: %s is compressed, and parts of it cannot be read: unpack it with zstd -d, and upload what comes out", ErrBase, base.Path)
	}
	l, err := readLayout(f, info.Size())
	if err != nil {
		return nil, err
	}
	if err := l.keep(func(p *gpt.Partition) bool {
		return slices.Contains(bootTypes, p.Type) || p.Type == typeRoot || p.Type == typeHashes
	}); err != nil {
		return nil, err
	}
	r := &recipe{Base: &base, Tag: upload.Tag(info)}
	return r, r.compose(&l, volume, size, func(p *gpt.Partition) (string, int64) { return fromBase, start(p) })
}

// compose lays out an image: the partitions from where they are found, and the seed
// volume, if there is one, behind them.
func (r *recipe) compose(l *layout, volume []byte, volumeSize int64, from func(*gpt.Partition) (source string, at int64)) error {
	parts := l.parts
	if volumeSize > 0 {
		l.add(volumeSize)
	}
	head, tail, size, err := l.frame()
	if err != nil {
		return err
	}
	r.make(head)
	for _, p := range parts {
		source, at := from(p)
		r.upTo(start(p))
		r.add(part{source, at, length(p)})
	}
	if volumeSize > 0 {
		r.upTo(start(l.parts[len(l.parts)-1]))
		r.make(volume)
	}
	r.upTo(size - tailSize)
	r.make(tail)
	return nil
}

// keepCopy keeps a partition as it is now, under a name that is its digest's: downloads
// that are made of the same share it.
func (k *Keeper) keepCopy(ctx context.Context, node string, p *gpt.Partition) (name string, err error) {
	size := length(p)
	if err := k.room(size); err != nil {
		return "", err
	}
	from, err := os.Open(node)
	if err != nil {
		return "", err
	}
	defer from.Close()
	return k.keepFile(".partition", func(to *os.File) error {
		copied := func() error { return copySparse(ctx, to, io.NewSectionReader(from, 0, size), size) }
		if p.Type != typeESP {
			return copied()
		}
		return k.Starter.Copied(ctx, to.Name(), copied)
	})
}

// copySparse copies so many bytes into an empty file, and leaves holes for zeroes.
func copySparse(ctx context.Context, to *os.File, from io.ReaderAt, size int64) error {
	b, zeroes := make([]byte, mib), make([]byte, mib)
	for at := int64(0); at < size; at += int64(len(b)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b = b[:min(int64(len(b)), size-at)]
		if _, err := io.ReadFull(io.NewSectionReader(from, at, int64(len(b))), b); err != nil {
			return err
		}
		if bytes.Equal(b, zeroes[:len(b)]) {
			continue
		}
		if _, err := to.WriteAt(b, at); err != nil {
			return err
		}
	}
	return to.Truncate(size)
}
