package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/lvm"
)

// contents is what is on a disk, as far as that can be seen by reading a little of it.
type contents struct {
	table string // gpt, mbr or ""
	id    string // of the table
	parts []model.DiskPart
	empty bool
	busy  bool   // something has the disk for itself
	stuck string // why it is not known
}

// readLimit is how long a disk may take to show what is on it. One that takes longer is
// broken: whoever asks is told, and does not wait.
const readLimit = 20 * time.Second

// mostParts bounds how many partitions are looked into.
const mostParts = 64

// look reads what is on a disk. Alone is for disks that nobody may use meanwhile.
func (m Machine) look(ctx context.Context, b block, alone bool, log *slog.Logger) contents {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, fmt.Errorf("it was not read within %v", readLimit))
	defer cancel()
	done := make(chan contents, 1)
	go func() { done <- read1(ctx, m.node(b.name), alone, log.With("disk", b.name)) }()
	select {
	case c := <-done:
		return c
	case <-ctx.Done():
		return contents{stuck: context.Cause(ctx).Error()}
	}
}

func read1(ctx context.Context, node string, alone bool, log *slog.Logger) contents {
	flags := unix.O_RDONLY | unix.O_NONBLOCK
	if alone {
		flags |= unix.O_EXCL // which the kernel refuses for what is mounted or part of something
	}
	f, err := os.OpenFile(node, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return contents{busy: true}
	}
	if err != nil {
		return contents{stuck: err.Error()}
	}
	defer f.Close()
	c, err := contentsOf(ctx, f, log)
	if err != nil {
		return contents{stuck: err.Error()}
	}
	return c
}

func contentsOf(ctx context.Context, f *os.File, log *slog.Logger) (c contents, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return c, err
	}
	table, err := guest.ReadTable(f, size)
	if err != nil && !errors.Is(err, guest.ErrTable) {
		return c, err
	}
	c.table, c.id = table.Table, table.ID
	for _, p := range table.Partitions[:min(mostParts, len(table.Partitions))] {
		part := model.DiskPart{Number: p.Number, Start: p.Start, Size: p.Size, Kind: p.Type, Name: p.Label, UUID: p.UUID}
		if c.table != "mbr" || !guest.IsExtended(p.Type) {
			if err := fill(ctx, f, &part, log); err != nil {
				return c, err
			}
		}
		c.parts = append(c.parts, part)
	}
	if len(c.parts) > 0 {
		return c, nil
	}
	whole := model.DiskPart{Size: size}
	if err := fill(ctx, f, &whole, log); err != nil {
		return c, err
	}
	if whole.FileSystem != "" {
		return contents{parts: []model.DiskPart{whole}}, nil // a boot sector may look like an empty table
	}
	c.empty, err = empty(f, size)
	c.empty = c.empty && c.table == ""
	return c, err
}

// fill says of a part what it holds.
func fill(ctx context.Context, f *os.File, p *model.DiskPart, log *slog.Logger) error {
	found, ok, err := direct.Identify(ctx, f, p.Start, p.Size, log)
	if err != nil || !ok {
		return err
	}
	p.FileSystem, p.Label, p.FileSystemUUID = found.Type, found.Label, found.UUID
	if found.Type == "LVM2_member" {
		member, err := lvm.Read(io.NewSectionReader(f, p.Start, p.Size), p.Size)
		if err == nil && member.Group != nil {
			p.Group = member.Group.Name
		}
	}
	return nil
}

// ends are the parts of a disk, at its start and its end, in which partition tables and
// file systems have their signatures, in bytes.
const ends = 1 << 20

// empty tells whether a disk has no signature of anything.
func empty(r io.ReaderAt, size int64) (bool, error) {
	p := make([]byte, min(ends, size))
	for _, at := range []int64{0, size - int64(len(p))} {
		if _, err := r.ReadAt(p, at); err != nil {
			return false, err
		}
		for _, b := range p {
			if b != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}
