package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxDescriptor bounds a VMDK descriptor; VMware's are under 20 sectors.
const maxDescriptor = 1 << 20

// Descriptor is the text part of a VMDK: what it is made of.
type Descriptor struct {
	CreateType string   // monolithicSparse, streamOptimized, monolithicFlat …
	ParentHint string   // parentFileNameHint of a snapshot; "" for none
	Extents    []Extent // in the order of the disk's bytes
}

// Extent is one file of a VMDK.
type Extent struct {
	Access  string // RW, RDONLY, NOACCESS
	Sectors string // of 512 bytes
	Kind    string // FLAT, SPARSE, ZERO, VMFS …
	File    string // as written; relative to the descriptor
}

// ReadDescriptor reads a VMDK's descriptor, which is a file of its own or
// embedded behind the sparse header.
//
// Source: VMware Virtual Disk Format 5.0, "The Descriptor File", "Hosted Sparse Extents".
func ReadDescriptor(path string) (Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return Descriptor{}, err
	}
	defer f.Close()
	text, err := descriptorText(f)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%s: %w", path, err)
	}
	return ParseDescriptor(text)
}

func descriptorText(f io.ReaderAt) ([]byte, error) {
	head := make([]byte, 512)
	if n, err := f.ReadAt(head, 0); err != nil && n < 64 {
		return nil, fmt.Errorf("%w: %d bytes are too few for a VMDK", ErrNotADisk, n)
	}
	offset, size := int64(0), int64(maxDescriptor)
	if bytes.HasPrefix(head, []byte("KDMV")) {
		const sector = 512
		offset = int64(binary.LittleEndian.Uint64(head[28:])) * sector
		size = int64(binary.LittleEndian.Uint64(head[36:])) * sector
		if offset == 0 || size == 0 { // an extent without a descriptor of its own
			return nil, nil
		}
	}
	if offset < 0 || size < 0 || size > maxDescriptor {
		return nil, fmt.Errorf("%w: its descriptor claims %d bytes at offset %d", ErrNotADisk, size, offset)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, offset, size))
	return bytes.TrimRight(text, "\x00"), err
}

// ParseDescriptor reads a VMDK descriptor's text.
func ParseDescriptor(text []byte) (Descriptor, error) {
	var d Descriptor
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if key, value, ok := strings.Cut(line, "="); ok && !strings.Contains(key, `"`) {
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(key)) {
			case "createtype":
				d.CreateType = value
			case "parentfilenamehint":
				d.ParentHint = value
			}
			continue
		}
		if e, ok := parseExtent(line); ok {
			d.Extents = append(d.Extents, e)
		}
	}
	return d, lines.Err()
}

func parseExtent(line string) (Extent, bool) {
	before, rest, quoted := strings.Cut(line, `"`)
	words := strings.Fields(before)
	if len(words) < 3 || words[0] != "RW" && words[0] != "RDONLY" && words[0] != "NOACCESS" {
		return Extent{}, false
	}
	e := Extent{Access: words[0], Sectors: words[1], Kind: words[2]}
	if quoted {
		e.File, _, _ = strings.Cut(rest, `"`)
	}
	return e, true
}

// checkDescriptor refuses a VMDK that would make QEMU open a file outside the
// descriptor's folder, or that is a snapshot of another disk.
func checkDescriptor(path string) error {
	d, err := ReadDescriptor(path)
	if err != nil {
		return err
	}
	if d.ParentHint != "" {
		return fmt.Errorf("%s: %w: it is a snapshot of %q; give the disk with its snapshots consolidated", path, ErrChain, d.ParentHint)
	}
	for _, e := range d.Extents {
		if e.File == "" {
			continue
		}
		if e.File != filepath.Base(e.File) || strings.Contains(e.File, ":") && !fileExists(filepath.Join(filepath.Dir(path), e.File)) {
			return fmt.Errorf("%s: %w: extent %q is outside the descriptor's folder", path, ErrChain, e.File)
		}
		extent := filepath.Join(filepath.Dir(path), e.File)
		info, err := os.Lstat(extent)
		if errors.Is(err, os.ErrNotExist) && d.CreateType != "monolithicFlat" && d.CreateType != "vmfs" {
			continue // a sparse disk that was renamed names its old self; QEMU reads the file given
		}
		if err != nil {
			return fmt.Errorf("%s: its extent is missing: %w", path, err)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s: %w: extent %q is a symbolic link", path, ErrChain, e.File)
		}
	}
	return nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
