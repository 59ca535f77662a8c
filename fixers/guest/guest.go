// Package guest is how the rest of the program sees the files of a guest: a
// file system to read, a topology of disks, a View in which fixers make their
// edits, and the change set that comes of them.
//
// FS: the guest's mounted files, by absolute slash-separated names that are
// resolved inside the guest root. Guest: an opened guest, one engine's way to
// its disks. View: an FS with edits recorded in memory. Change: one edit.
package guest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"time"
)

// Errors that callers decide on. Absent files are fs.ErrNotExist.
var (
	// ErrTooBig is a file over the limit that its reader set.
	ErrTooBig = errors.New("file is larger than expected")
	// ErrConflict is a guest that is not what its plan was made for.
	ErrConflict = errors.New("changed since the plan was made")
	// ErrNotRegular is a folder, device or pipe where a file was expected.
	ErrNotRegular = errors.New("not a regular file")
)

// Reader is the reading half of a guest's files. Names are absolute; symbolic
// links in them are followed inside the guest root, never out of it.
type Reader interface {
	// ReadFile reads a regular file of at most limit bytes; ErrTooBig beyond.
	ReadFile(name string, limit int64) ([]byte, error)
	// Lstat describes name itself, a symbolic link as a link.
	Lstat(name string) (Info, error)
	// ReadDir lists a folder, sorted by name, at most maxEntries of them.
	ReadDir(name string) ([]Info, error)
	// Readlink is a symbolic link's target as it is written.
	Readlink(name string) (string, error)
	// Xattrs are the extended attributes of name itself, ACLs and labels included.
	Xattrs(name string) (map[string][]byte, error)
	// Space tells of the file system on which what name leads to is.
	Space(name string) (Space, error)
}

// Space is what root may still write on a file system.
type Space struct {
	Filesystem string // names it among those of the guest
	Free       int64  // bytes
}

// FS is a guest's files. The writing half is used by Apply alone: everything
// else edits a View. A write keeps what it does not name: a file's inode, hard
// links, owner, mode and attributes stay.
type FS interface {
	Reader
	// WriteFile replaces a regular file's content from offset on and cuts it
	// behind the data; it creates the file (mode 0600, owner root) if absent.
	WriteFile(name string, offset int64, data []byte) error
	// Truncate cuts a regular file to size bytes.
	Truncate(name string, size int64) error
	Mkdir(name string, mode fs.FileMode) error
	Symlink(target, name string) error
	// Remove removes a file, a symbolic link or an empty folder.
	Remove(name string) error
	// SetMeta sets owner, mode, extended attributes (exactly these) and
	// modification time of name itself. A symbolic link's mode and time may
	// stay as they are. An engine that cannot store an attribute's value
	// changes nothing; its error wraps errors.ErrUnsupported. On FAT and NTFS all files
	// are root's and stay so, with mode 0644, and folders with 0755: what a View
	// gives to new ones.
	SetMeta(name string, m Meta) error
}

// MaxEntries bounds what ReadDir returns of one folder.
const MaxEntries = 100_000

// Info describes one file of a guest.
type Info struct {
	Name  string      // last element
	Mode  fs.FileMode // type and permissions, set-id and sticky bits
	UID   int
	GID   int
	Size  int64 // bytes of a file or of a link's target, else 0
	MTime time.Time
}

// Meta is all of a file but its content.
type Meta struct {
	Mode   fs.FileMode       `json:"mode"` // permissions, set-id and sticky bits
	UID    int               `json:"uid"`
	GID    int               `json:"gid"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	// MTime is restored by undo; zero leaves the time to the file system.
	MTime time.Time `json:"mtime,omitzero"`
}

// sameAs compares what a plan compares: not the times.
func (m Meta) sameAs(o Meta) bool {
	return m.Mode == o.Mode && m.UID == o.UID && m.GID == o.GID && maps.EqualFunc(m.Xattrs, o.Xattrs, bytes.Equal)
}

// Topology is what lies on a guest's disks.
type Topology struct {
	Disks []Disk `json:"disks"`
	// Volumes are arrays of md's, volumes of LVM's and what LUKS has encrypted, opened
	// or not, by name.
	Volumes []Volume `json:"volumes,omitempty"`
	// Groups are the volume groups of LVM's, by UUID.
	Groups      []Group      `json:"groups,omitempty"`
	Filesystems []Filesystem `json:"filesystems"`
	// Problems are what could not be read of it.
	Problems []Problem `json:"problems,omitempty"`
}

// Problem is something of a device that could not be read.
type Problem struct {
	Device string `json:"device"`
	Text   string `json:"text"`
}

// Disk is one disk as the guest's machine has it.
type Disk struct {
	Name       string      `json:"name"`           // disk0, disk1 … in the machine's order
	Size       int64       `json:"size"`           // bytes
	Table      string      `json:"table"`          // gpt, mbr, or "" for none
	ID         string      `json:"id,omitempty"`   // GPT's GUID or MBR's signature, lower case
	Partitions []Partition `json:"partitions"`     // by number
	BootCode   string      `json:"boot,omitempty"` // what the first sector's code names: "GRUB", "LILO" …
	// Usable is where GPT's room for partitions ends, and Backup where its second
	// header is, in bytes; both are 0 where the table is not to be extended.
	Usable int64 `json:"usable,omitempty"`
	Backup int64 `json:"backup,omitempty"`
}

// Partition is one entry of a partition table.
type Partition struct {
	Name   string `json:"name"`   // disk0p1
	Number int    `json:"number"` // as the kernel counts
	Start  int64  `json:"start"`  // bytes
	Size   int64  `json:"size"`   // bytes
	Type   string `json:"type"`   // GPT's type GUID or MBR's type byte as two hex digits, lower case
	UUID   string `json:"uuid"`   // PARTUUID, lower case
	Label  string `json:"label,omitempty"`
}

// Volume is a device that the guest makes of others: a logical volume of LVM, an
// array of Linux's software RAID, or what LUKS has encrypted. Its name is stable: it
// is kept with the volume's content, and no other device's name has a slash.
type Volume struct {
	// Name is group/volume, for the guest's /dev/group/volume; md/name, for its
	// /dev/md/name or /dev/mdN; or luks/UUID, for what its crypttab names.
	Name  string   `json:"name"`
	UUID  string   `json:"uuid"`            // as LVM, mdadm or cryptsetup prints it
	Group string   `json:"group,omitempty"` // UUID of its volume group
	Array *Array   `json:"array,omitempty"` // of an array alone
	Crypt *Crypt   `json:"crypt,omitempty"` // of what is encrypted alone
	Size  int64    `json:"size"`            // bytes
	On    []string `json:"on"`              // the devices that it lies on: disk0p3
	// Segments are where its bytes lie, in order; of a volume that any engine opens
	// and that is not encrypted, in the topology of an opened guest alone.
	Segments []Segment `json:"-"`
	// Problem is why the volume is not opened; "" if an engine may. Two volumes
	// of one name have one.
	Problem string `json:"problem,omitempty"`
	// Unsupported is why this engine has not opened the volume, though another may.
	Unsupported string `json:"unsupported,omitempty"`
	// Fixed is why a logical volume without a problem does not grow, and Tail where
	// another one may.
	Fixed string `json:"fixed,omitempty"`
	Tail  *Tail  `json:"tail,omitempty"`
}

// Segment is a run of a volume's bytes, on one device or on several.
type Segment struct {
	Size   int64 // bytes
	Chunk  int64 // bytes that lie on one device before the next has its turn; 0 where they do not take turns
	Copies bool  // every device has all of the bytes; the first is the one to read
	On     []Place
}

// Place is where on a disk, a partition or another volume something begins.
type Place struct {
	Device string
	Start  int64 // bytes
}

// Find is the device that a byte of the volume lies on, where it lies there, and
// how many bytes follow it there; of copies it is the one to read. Behind the
// volume's end there are no bytes.
//
// Source: dm-stripe, Linux drivers/md/dm-stripe.c.
func (v Volume) Find(off int64) (at Place, size int64) {
	for _, s := range v.Segments {
		if off >= s.Size {
			off -= s.Size
			continue
		}
		if s.Chunk == 0 {
			return Place{s.On[0].Device, s.On[0].Start + off}, s.Size - off
		}
		row, within := off/s.Chunk, off%s.Chunk
		n := int64(len(s.On))
		on := s.On[row%n]
		return Place{on.Device, on.Start + row/n*s.Chunk + within}, s.Chunk - within
	}
	return Place{}, 0
}

// Mapped is a volume's name under /dev/mapper; what is encrypted has this one if the
// guest's crypttab gives it no other.
//
// Source: lvm(8), "VALID NAMES"; LVM2 libdm/libdm-string.c, dm_build_dm_name;
// dracut.cmdline(7), rd.luks.uuid=; systemd-cryptsetup-generator(8).
func (v Volume) Mapped() string {
	if v.Crypt != nil {
		return "luks-" + v.UUID
	}
	return strings.ReplaceAll(strings.ReplaceAll(v.Name, "-", "--"), "/", "-")
}

// Filesystem is what a partition, a whole disk or a volume holds: a file system,
// swap space, or what volumes are made of.
type Filesystem struct {
	Device string `json:"device"` // disk0p1, disk0 for a whole disk, or a volume's name
	Type   string `json:"type"`   // blkid's name: ext4, xfs, swap, LVM2_member, crypto_LUKS …
	UUID   string `json:"uuid,omitempty"`
	Label  string `json:"label,omitempty"`
	Size   int64  `json:"size"` // bytes of the device
	// Span is how many of them an ext, an XFS or a btrfs on one device takes for its
	// own, by its superblock.
	Span int64 `json:"span,omitempty"`
	// Group is the UUID of the volume group that a physical volume of LVM is in.
	Group string `json:"group,omitempty"`
	// Subvolumes are those of a btrfs, by their IDs.
	Subvolumes []Subvolume `json:"subvolumes,omitempty"`
	// Replayed tells that a mount has replayed the journal on the overlay, as far as
	// the engine knows: the one change that no plan lists.
	Replayed bool `json:"replayed,omitempty"`
	// Unclean tells of an NTFS that Windows has hibernated, or was not shut down: it is
	// shown as it was last written, and cannot be written. A mount finds that out.
	Unclean bool `json:"unclean,omitempty"`
}

// Subvolume is a tree of files of its own in a btrfs, and a folder of another one.
// Its ID is kept with it, whatever its name is made of.
type Subvolume struct {
	ID       uint64 `json:"id"`
	Path     string `json:"path"`                // from the top level, which is "/": /@home
	ReadOnly bool   `json:"read_only,omitempty"` // as snapshots are that nobody shall write to
	Default  bool   `json:"default,omitempty"`   // what a mount shows that asks for none
}

// Guest is an opened guest. One goroutine uses it at a time. It ends with the context that
// it was opened with: calls fail soon then, and Err and Close tell the context's cause.
type Guest interface {
	FS
	Topology() Topology
	// Mount puts a file system of the topology at a folder of the guest root;
	// the first is mounted at "/". It may replay the journal on the overlay. Of a
	// btrfs it is the default subvolume.
	Mount(device, at string) error
	// MountSubvolume is Mount of a subvolume of the topology, by its ID. Several of
	// one file system may be mounted. One that is read-only stays so.
	MountSubvolume(device string, id uint64, at string) error
	// UnmountAll undoes every Mount, so that another root can be tried.
	UnmountAll() error
	// Check lets a file system's own checker look at it, which changes nothing,
	// after a mount that replays its journal on the overlay. Nothing may be
	// mounted meanwhile. What an engine cannot mount is Unchecked; the error is
	// the context's, or that of an engine that does not work.
	Check(ctx context.Context, device string) (Health, error)
	// Grow makes partitions, LVM's volumes and a file system larger as PlanResize has
	// planned it: partition tables and volume groups by ourselves, the file system by
	// its own means, after a check that finds it whole. Nothing may be mounted meanwhile. The topology is
	// the new one afterwards; after an error the overlay is to be thrown away.
	Grow(ctx context.Context, r Resize) error
	// Err tells whether the engine still works: after one that has crashed or hangs
	// every call fails, and what could not be read is not absent.
	Err() error
	// Close writes everything through to the overlay and lets go of it.
	// Its error means that writes may be missing.
	Close() error
}
