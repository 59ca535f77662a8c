package vmwaretest

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// copySparse copies a file with its holes, or has the file system share its blocks.
func copySparse(to, from string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	return copyData(dst, src, info.Size())
}

// copyData copies what is not a hole.
func copyData(dst, src *os.File, size int64) error {
	return data(src, size, func(off, n int64) error {
		_, err := io.Copy(io.NewOffsetWriter(dst, off), io.NewSectionReader(src, off, n))
		return err
	})
}

// data calls f for each run of a file that is not a hole.
func data(f *os.File, size int64, each func(off, n int64) error) error {
	for off := int64(0); off < size; {
		n, hole, err := disk.Hole(f, off, size-off)
		if err != nil {
			return err
		}
		if !hole {
			if err := each(off, n); err != nil {
				return err
			}
		}
		off += n
	}
	return nil
}

// holes tells which parts of a file are holes, asked from its start to its end.
type holes struct {
	f    *os.File
	size int64
	from int64 // of the run that was looked at last
	to   int64
	hole bool
	err  error
}

func newHoles(f *os.File, size int64) *holes { return &holes{f: f, size: size} }

// covers tells whether n bytes from off on are a hole, or the end of the file.
func (h *holes) covers(off, n int64) bool {
	n = min(n, h.size-off)
	if off < h.from || off >= h.to {
		length, hole, err := disk.Hole(h.f, off, h.size-off)
		h.from, h.to, h.hole, h.err = off, off+length, hole, errors.Join(h.err, err)
	}
	return h.hole && off+n <= h.to
}
