package disk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
	offset := int64(0)
	if bytes.HasPrefix(head, []byte("KDMV")) {
		const sector = 512
		first := binary.LittleEndian.Uint64(head[28:])
		if first == 0 { // an extent without a descriptor of its own
			return nil, nil
		}
		if first > math.MaxInt64/sector-maxDescriptor {
			return nil, fmt.Errorf("%w: its descriptor claims to be at sector %d", ErrNotADisk, first)
		}
		offset = int64(first) * sector
	}
	// As QEMU reads it: up to the first zero byte, whatever length the header claims.
	text, err := io.ReadAll(io.NewSectionReader(f, offset, maxDescriptor))
	text, _, _ = bytes.Cut(text, []byte{0})
	return text, err
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
		if e.File != filepath.Base(e.File) || strings.Contains(e.File, ":") { // QEMU takes "nbd:…" for a protocol
			return fmt.Errorf("%s: %w: extent %q is outside the descriptor's folder; move it there and name it so in the descriptor", path, ErrChain, e.File)
		}
		extent := filepath.Join(filepath.Dir(path), e.File)
		info, err := os.Lstat(extent)
		if errors.Is(err, os.ErrNotExist) && d.CreateType != "monolithicFlat" && d.CreateType != "vmfs" {
			continue // a sparse disk that was renamed names its old self; QEMU reads the file given
		}
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: its data are in %s, which does not exist; put it beside the descriptor", path, e.File)
		}
		if err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s: %w: extent %q is a symbolic link; put the file itself there", path, ErrChain, e.File)
		}
	}
	return nil
}

// checkOpened refuses a VMDK of which QEMU opened a file outside the
// descriptor's folder. QEMU parses descriptors with sscanf, which takes a line
// break for a space and "8FLAT" for two words: what it opened is the truth, and
// what checkDescriptor read only the better error.
//
// Source: QEMU, block/vmdk.c, vmdk_parse_extents.
func checkOpened(path string, specific json.RawMessage) error {
	files, err := opened(specific)
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("%s: %w: QEMU does not say what it is made of", path, ErrNotADisk), err)
	}
	for _, file := range files {
		if file == path {
			continue
		}
		info, err := os.Lstat(file)
		if err != nil || filepath.Dir(file) != filepath.Dir(path) || !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %w: extent %q is not a file in the descriptor's folder", path, ErrChain, file)
		}
	}
	return nil
}

// opened are the extents of which QEMU says that a VMDK is made.
func opened(specific json.RawMessage) ([]string, error) {
	var s struct {
		Data struct {
			Extents []struct {
				Filename string `json:"filename"`
			} `json:"extents"`
		} `json:"data"`
	}
	err := json.Unmarshal(specific, &s)
	var files []string
	for _, e := range s.Data.Extents {
		files = append(files, e.Filename)
	}
	return files, err
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
