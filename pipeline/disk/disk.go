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
	"slices"
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
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != os.ModeDevice { // opening a pipe would wait for ever
		return "", fmt.Errorf("%s: %w: it is neither a file nor a block device", path, ErrNotADisk)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s: %w: it is empty; copy it from the source again", path, ErrNotADisk)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	found, err := format(path, info.Mode(), head[:n])
	if err != nil && partName.MatchString(path) {
		return "", fmt.Errorf("%s: %w", path, partOf(path))
	}
	return found, err
}

// beginsVMDK are the beginnings of VMDKs: sparse ones of three kinds, and a
// descriptor.
var beginsVMDK = []string{magicKDMV, magicCOWD, magicSESparse, "# Disk DescriptorFile", "\ufeff# Disk DescriptorFile"}

func format(path string, mode os.FileMode, head []byte) (string, error) {
	found := ""
	switch {
	case slices.ContainsFunc(beginsVMDK, func(b string) bool { return bytes.HasPrefix(head, []byte(b)) }):
		found = VMDK
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		found = QCOW2
	}
	extension := strings.ToLower(filepath.Ext(path))
	switch {
	case extension == ".img" && found != "" && mode.IsRegular():
		return "", fmt.Errorf("%s: %w: it begins like %s: name it .%s if it is that, or .raw if a guest wrote it", path, ErrNotADisk, found, found)
	case mode&os.ModeDevice != 0, extension == ".raw", extension == ".img":
		return Raw, nil
	case found == "":
		return "", fmt.Errorf("%s: %w: give a VMDK or qcow2 file, or raw data in a file that ends in .raw", path, ErrNotADisk)
	case extension == ".vmdk" && found != VMDK, extension == ".qcow2" && found != QCOW2:
		return "", fmt.Errorf("%s: %w: it holds %s, not what its name says; rename it to end in .%s", path, ErrNotADisk, found, found)
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

// external tells whether a qcow2's data are in a file of their own.
func external(specific json.RawMessage) bool {
	var s struct {
		Data struct {
			DataFile string `json:"data-file"`
		} `json:"data"`
	}
	return len(specific) > 0 && json.Unmarshal(specific, &s) == nil && s.Data.DataFile != ""
}

// leaked is qemu-img check's exit status for clusters that nothing uses: what a
// daemon that was killed leaves. They cost room and harm nothing.
// Source: qemu-img(1), check.
const leaked = 3

// Check verifies a qcow2 file's own structure.
func Check(ctx context.Context, path string) error { return CheckFormat(ctx, path, QCOW2) }

// CheckFormat verifies the structure of a file in a format that has one.
func CheckFormat(ctx context.Context, path, format string) error {
	_, err := proc.Run(ctx, "qemu-img", "check", "-q", "-f", format, "--", path)
	if e, ok := errors.AsType[*proc.Error](err); ok && e.Exit == leaked {
		return nil
	}
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
