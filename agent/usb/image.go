package usb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// Image is one of the appliance, raw or compressed.
type Image struct {
	Path       string
	Size       int64 // of what goes onto the stick
	compressed bool
}

// zstdMagic begins what is compressed.
// Source: RFC 8878, 3.1.1.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// maxImage bounds what a compressed image may become.
const maxImage = 64 << 30

// OpenImage looks at an image: that it has a partition table, and, of a compressed one,
// by reading it once, that it is whole.
func OpenImage(path string) (*Image, error) {
	i := &Image{Path: path}
	if err := i.look(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

func (i *Image) look() error {
	f, err := os.Open(i.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil {
		return fmt.Errorf("%w: it is empty", ErrImage)
	}
	i.compressed = bytes.Equal(head, zstdMagic)
	if err := i.checkTable(); err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || !i.compressed {
		if err == nil {
			i.Size = info.Size()
		}
		return err
	}
	return i.measure()
}

// checkTable wants a GPT, as every image of the appliance has one.
func (i *Image) checkTable() error {
	r, err := i.open()
	if err != nil {
		return err
	}
	defer r.Close()
	head := make([]byte, 1024)
	if _, err := io.ReadFull(r, head); err != nil || string(head[512:520]) != "EFI PART" || binary.LittleEndian.Uint16(head[510:]) != 0xaa55 {
		return fmt.Errorf("%w: it is not the appliance's: take hyper2kvm.raw.zst, or what is in it", ErrImage)
	}
	return nil
}

func (i *Image) measure() error {
	r, err := i.open()
	if err != nil {
		return err
	}
	defer r.Close()
	i.Size, err = io.Copy(io.Discard, io.LimitReader(r, maxImage+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: it is damaged, or not whole: download it again: %w", ErrImage, err)
	case i.Size > maxImage:
		return fmt.Errorf("%w: it is larger than %d GiB", ErrImage, maxImage>>30)
	}
	return nil
}

// open reads what goes onto the stick.
func (i *Image) open() (io.ReadCloser, error) {
	f, err := os.Open(i.Path)
	if err != nil || !i.compressed {
		return f, err
	}
	d, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return inflated{d.IOReadCloser(), f}, nil
}

// inflated is a reader, and the file that it reads.
type inflated struct {
	io.ReadCloser
	file *os.File
}

func (i inflated) Close() error { return errors.Join(i.ReadCloser.Close(), i.file.Close()) }
