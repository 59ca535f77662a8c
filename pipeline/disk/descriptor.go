package disk

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what is read of a descriptor.
const (
	maxDescriptor = 1 << 20 // bytes; VMware's have a few hundred, and QEMU reads no more
	maxExtents    = 8192    // 16 TiB in pieces of 2 GB
	maxSectors    = 1 << 40 // 512 TiB; VMware's disks end at 62 TB
)

// sectorSize is VMware's, whatever the storage has.
const sectorSize = 512

// noParent is the parent's content ID of a disk that stands on no other.
const noParent = 0xffffffff

// Descriptor is the text part of a VMDK: what it is made of.
type Descriptor struct {
	CreateType string   // as it is written: monolithicSparse, vmfs …
	CID        uint32   // changes when the content does
	ParentCID  uint32   // the parent's CID when the snapshot was made; noParent
	ParentHint string   // parentFileNameHint of a snapshot, as written; "" for none
	Extents    []Extent // in the order of the disk's bytes
	Encrypted  bool     // the data make no sense without a key
}

// Extent is a run of a disk's sectors.
type Extent struct {
	Access  Access
	Sectors int64
	Kind    Kind
	File    string // as written: a name, or a path of the machine that wrote it; "" for ZERO
	Offset  int64  // sectors from the file's beginning to the extent's; of flat extents alone
}

// Access is what may be done with an extent.
type Access string

// The three ways to access an extent.
const (
	ReadWrite Access = "RW"
	ReadOnly  Access = "RDONLY"
	NoAccess  Access = "NOACCESS"
)

// Kind is how an extent's file holds its sectors.
type Kind string

// The kinds of extents.
//
// Source: VMware Virtual Disk Format 5.0, "Extent Descriptions"; QEMU,
// block/vmdk.c, for SESPARSE, which VMware never described.
const (
	Flat       Kind = "FLAT"
	Sparse     Kind = "SPARSE"
	Zero       Kind = "ZERO"
	VMFS       Kind = "VMFS"
	VMFSSparse Kind = "VMFSSPARSE"
	SESparse   Kind = "SESPARSE"
	VMFSRDM    Kind = "VMFSRDM"
	VMFSRaw    Kind = "VMFSRAW"
)

var (
	kinds    = []Kind{Flat, Sparse, Zero, VMFS, VMFSSparse, SESparse, VMFSRDM, VMFSRaw}
	accesses = []Access{ReadWrite, ReadOnly, NoAccess}
)

// flat tells whether the sectors follow one another in the extent's file.
func (k Kind) flat() bool { return k == Flat || k == VMFS }

// snapshot tells whether the disk stands on another one.
func (d Descriptor) snapshot() bool { return d.ParentHint != "" }

// Sectors is the disk's size.
func (d Descriptor) Sectors() (n int64) {
	for _, e := range d.Extents {
		n += e.Sectors
	}
	return n
}

// ParseDescriptor reads a VMDK descriptor's text. It refuses what may be meant
// in two ways, since QEMU and VMware would each take one of them: a line that is
// no setting, no extent and no comment, a setting that is given twice, a parent
// that is half named.
//
// Source: VMware Virtual Disk Format 5.0, "The Descriptor File"; descriptors
// that Workstation, Fusion and ESXi wrote.
func ParseDescriptor(data []byte) (Descriptor, error) {
	if len(data) > maxDescriptor {
		return Descriptor{}, fmt.Errorf("%w: %d bytes are too many for a VMDK's descriptor", ErrNotADisk, len(data))
	}
	data, _, _ = bytes.Cut(data, []byte{0}) // it may be padded to whole sectors
	text, err := UTF8(data)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%w: %w", ErrNotADisk, err)
	}
	d, seen, n := Descriptor{ParentCID: noParent}, map[string]string{}, 0
	for line := range strings.Lines(text) {
		n++
		if err := d.line(strings.TrimSpace(line), seen); err != nil {
			return Descriptor{}, fmt.Errorf("%w: line %d of its descriptor %w", ErrNotADisk, n, err)
		}
	}
	switch {
	case d.snapshot() && d.ParentCID == noParent:
		return Descriptor{}, fmt.Errorf("%w: its descriptor names the parent %q, and says that it has none (parentCID)", ErrNotADisk, d.ParentHint)
	case !d.snapshot() && d.ParentCID != noParent:
		return Descriptor{}, fmt.Errorf("%w: its descriptor says that it is a snapshot (parentCID), and not of which disk (parentFileNameHint)", ErrNotADisk)
	case d.Sectors() > maxSectors:
		return Descriptor{}, fmt.Errorf("%w: its descriptor claims a disk of %d sectors", ErrNotADisk, d.Sectors())
	}
	return d, nil
}

func (d *Descriptor) line(line string, seen map[string]string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	if spelled(accesses, strings.Fields(line)[0]) != "" {
		e, err := parseExtent(line)
		if err == nil && len(d.Extents) == maxExtents {
			err = fmt.Errorf("is one extent too many: %d are read", maxExtents)
		}
		d.Extents = append(d.Extents, e)
		return err
	}
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return fmt.Errorf("is neither a setting nor an extent: %.60q", line)
	}
	key = strings.ToLower(strings.TrimSpace(key))
	set, ok := settings[key]
	if !ok {
		return nil // geometry, tools, sidecars …
	}
	value, err := unquoted(value)
	if err != nil {
		return err
	}
	if other, ok := seen[key]; ok && other != value {
		return fmt.Errorf("gives %s again, and differently: %.60q after %.60q", key, value, other)
	}
	seen[key] = value
	return set(d, value)
}

// unquoted is a setting's value, which may be in quotation marks.
func unquoted(value string) (string, error) {
	value = strings.TrimSpace(value)
	inner := value
	if strings.HasPrefix(value, `"`) {
		inner = strings.TrimSuffix(value[1:], `"`)
		if len(inner)+2 != len(value) {
			return "", fmt.Errorf("has a quotation mark without its other: %.60q", value)
		}
	}
	if strings.ContainsRune(inner, '"') {
		return "", fmt.Errorf("has a quotation mark within a value: %.60q", value)
	}
	return inner, nil
}

// settings are those of a descriptor that mean something here, in lower case.
//
// An encrypted disk of ESXi has keyID, encryptionKeys and the I/O filter
// vmwarevmcrypt; one of Workstation encryptionKeys.
var settings = map[string]func(d *Descriptor, value string) error{
	"encoding":           func(*Descriptor, string) error { return nil }, // UTF8 read it
	"createtype":         func(d *Descriptor, value string) error { d.CreateType = value; return nil },
	"cid":                func(d *Descriptor, value string) error { return contentID(&d.CID, value) },
	"parentcid":          func(d *Descriptor, value string) error { return contentID(&d.ParentCID, value) },
	"parentfilenamehint": func(d *Descriptor, value string) error { d.ParentHint = value; return printable(value) },
	"keyid":              encrypted,
	"encryptionkeys":     encrypted,
	"ddb.iofilters": func(d *Descriptor, value string) error {
		d.Encrypted = d.Encrypted || strings.Contains(strings.ToLower(value), "vmcrypt")
		return nil
	},
}

func encrypted(d *Descriptor, value string) error {
	d.Encrypted = d.Encrypted || value != ""
	return nil
}

func contentID(id *uint32, value string) error {
	n, err := strconv.ParseUint(value, 16, 32)
	if err != nil {
		return fmt.Errorf("has no content ID of 8 hexadecimal digits: %.60q", value)
	}
	*id = uint32(n)
	return nil
}

// printable refuses names that no program of VMware's writes.
func printable(name string) error {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("has a name with a control character: %.60q", name)
	}
	return nil
}

// extentLine is an extent: access, sectors, kind, file, offset. Windows' device
// extents go on with the partition's UUID.
var extentLine = regexp.MustCompile(`(?i)^(\w+)\s+(\d{1,13})\s+(\w+)(?:\s+"([^"]+)"(?:\s+(\d{1,13})(?:\s+partitionUUID\s.*)?)?)?$`)

func parseExtent(line string) (Extent, error) {
	m := extentLine.FindStringSubmatch(line)
	if m == nil {
		return Extent{}, fmt.Errorf("is no extent as VMware writes them: %.60q", line)
	}
	e := Extent{Access: spelled(accesses, m[1]), Kind: spelled(kinds, m[3]), File: m[4]}
	var err error
	if e.Sectors, err = strconv.ParseInt(m[2], 10, 64); err != nil {
		return Extent{}, err
	}
	if m[5] != "" {
		if e.Offset, err = strconv.ParseInt(m[5], 10, 64); err != nil {
			return Extent{}, err
		}
	}
	switch {
	case e.Kind == "":
		return Extent{}, fmt.Errorf("has an extent of the unknown kind %.60q", m[3])
	case e.Sectors < 1 || e.Sectors > maxSectors || e.Offset > maxSectors:
		return Extent{}, fmt.Errorf("has an extent of %d sectors at %d", e.Sectors, e.Offset)
	case (e.File == "") != (e.Kind == Zero):
		return Extent{}, fmt.Errorf("has a %s extent with the file %.60q", e.Kind, e.File)
	case e.Offset != 0 && !e.Kind.flat():
		return Extent{}, fmt.Errorf("has a %s extent with an offset", e.Kind)
	}
	return e, printable(e.File)
}

// spelled finds a word of VMware's, whose descriptors fold case.
func spelled[T ~string](words []T, text string) T {
	for _, w := range words {
		if strings.EqualFold(string(w), text) {
			return w
		}
	}
	return ""
}
