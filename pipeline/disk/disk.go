// Package disk knows guests' disks as data: their formats, the read-only
// exports that sources are, the overlays in which all changes live, and the
// server that owns those. It is a leaf that anyone may import.
//
// Export: a disk that a Network Block Device (NBD) server offers on a Unix
// socket. Overlay: a qcow2 file that holds what was written over a read-only
// export. Storage: the one process that owns the overlays of a migration.
package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// Formats by QEMU's names.
const (
	Raw   = "raw"
	QCOW2 = "qcow2"
	VMDK  = "vmdk"
)

// ErrNotADisk is a file in which no known disk format was found.
var ErrNotADisk = errors.New("not a disk in a known format")

// Sniff tells a disk's format by its first bytes, for files that the operator
// names. A name that ends in .vmdk or .qcow2 must hold what it says, and only a
// block device or a name that ends in .raw or .img is taken as raw: guessing
// raw would let a guest choose the format of its own disk by what it writes.
func Sniff(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("%s: %w: it is empty or cannot be read", path, ErrNotADisk)
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	return format(path, info.Mode(), head[:n])
}

func format(path string, mode os.FileMode, head []byte) (string, error) {
	found := ""
	switch {
	case bytes.HasPrefix(head, []byte("KDMV")), bytes.HasPrefix(head, []byte("# Disk DescriptorFile")):
		found = VMDK
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		found = QCOW2
	}
	extension := strings.ToLower(filepath.Ext(path))
	switch {
	case mode&os.ModeDevice != 0, extension == ".raw", extension == ".img":
		return Raw, nil
	case found == "":
		return "", fmt.Errorf("%s: %w: give a VMDK or qcow2 file, or raw data in a file that ends in .raw", path, ErrNotADisk)
	case extension == ".vmdk" && found != VMDK, extension == ".qcow2" && found != QCOW2:
		return "", fmt.Errorf("%s: %w: it holds %s, not what its name says", path, ErrNotADisk, found)
	}
	return found, nil
}

// Image is what qemu-img says of a disk.
type Image struct {
	Format      string          `json:"format"`
	VirtualSize int64           `json:"virtual-size"` // bytes
	ActualSize  int64           `json:"actual-size"`  // bytes allocated on the host
	Backing     string          `json:"backing-filename"`
	Specific    json.RawMessage `json:"format-specific"`
}

// Describe reads a disk's header; the format is given, never probed.
func Describe(ctx context.Context, path, format string) (Image, error) {
	out, err := proc.Run(ctx, "qemu-img", "info", "-U", "--output=json", "-f", format, "--", path)
	if err != nil {
		return Image{}, err
	}
	var image Image
	if err := json.Unmarshal(out, &image); err != nil {
		return Image{}, fmt.Errorf("qemu-img info %s: %w", path, err)
	}
	return image, nil
}

// Check verifies a qcow2 file's own structure.
func Check(ctx context.Context, path string) error {
	_, err := proc.Run(ctx, "qemu-img", "check", "-q", "-f", QCOW2, "--", path)
	return err
}

// blockdev is a node of QEMU's block layer as its JSON describes it.
type blockdev map[string]any

// String is the node in QEMU's JSON, which needs no escaping of names.
func (b blockdev) String() string {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings, numbers and booleans alone
	}
	return string(text)
}
