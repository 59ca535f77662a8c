package ova

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// identify gives a streamed disk an ID that follows from its content: QEMU gives it one by
// chance, and what is made of one image is to be the same each time.
//
// Source: VMware, Virtual Disk Format 5.0, "CID"; QEMU, block/vmdk.c, vmdk_co_do_create.
func identify(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d, err := readDescriptor(f)
	if err != nil {
		return err
	}
	if err := d.write(f, 0); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	const notAll = 1<<31 - 1 // ones alone are the ID of no disk
	return d.write(f, binary.BigEndian.Uint32(h.Sum(nil))&notAll)
}

// descriptor is the text within a disk that tells what the disk is.
type descriptor struct {
	at   int64 // bytes
	text []byte
}

// mostOfADescriptor bounds it in sectors; QEMU has 20.
const mostOfADescriptor = 128

func readDescriptor(f io.ReaderAt) (d descriptor, err error) {
	const sector = 512
	head := make([]byte, sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return d, err
	}
	at, size := binary.LittleEndian.Uint64(head[28:]), binary.LittleEndian.Uint64(head[36:])
	if at == 0 || at > mostOfADescriptor || size == 0 || size > mostOfADescriptor {
		return d, fmt.Errorf("the disk's descriptor is said to be %d sectors behind sector %d", size, at)
	}
	d = descriptor{int64(at) * sector, make([]byte, size*sector)}
	if _, err := f.ReadAt(d.text, d.at); err != nil {
		return d, err
	}
	if found := idLine.FindAll(d.text, -1); len(found) != 1 {
		return d, fmt.Errorf("the disk's descriptor has %d IDs", len(found))
	}
	return d, nil
}

var idLine = regexp.MustCompile(`(?m)^CID=[0-9a-f]{1,8}$`)

// write writes the descriptor with another ID. What is behind the text is empty.
func (d descriptor) write(f io.WriterAt, id uint32) error {
	text := idLine.ReplaceAll(bytes.TrimRight(d.text, "\x00"), fmt.Appendf(nil, "CID=%08x", id))
	if len(text) > len(d.text) {
		return errors.New("the disk's descriptor has no room for an ID")
	}
	_, err := f.WriteAt(append(text, make([]byte, len(d.text)-len(text))...), d.at)
	return err
}
