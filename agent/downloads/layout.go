package downloads

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"hyper2kvm/agent/update"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

const (
	sector = 512
	mib    = 1 << 20

	bootCode = 440         // bytes at the beginning, for BIOS
	headSize = 34 * sector // of the partition table with that
	tailSize = 33 * sector // of its second copy, at the end
	mostDisk = 64 << 30    // bytes of partitions
)

// seedPartition is the seed volume's name in the partition table. Of disks with names
// that begin so, the appliance lets nobody use any for something else.
const seedPartition = "hyper2kvm-seed"

// The types of the partitions that make an appliance. What it keeps has another, and is
// made anew by every one.
//
// Source: UAPI group, Discoverable Partitions Specification.
const (
	typeESP    = gpt.EFISystemPartition
	typeBIOS   = gpt.BIOSBoot
	typeRoot   = gpt.Type(update.TypeRoot)
	typeHashes = gpt.Type(update.TypeVerity)
)

// bootTypes are those that the firmware starts from: a running appliance may write them,
// when it is updated.
var bootTypes = []gpt.Type{typeESP, typeBIOS}

// layout is what a disk begins with, and the partitions on it that make an appliance.
type layout struct {
	code  []byte
	parts []*gpt.Partition
}

// readLayout reads the table of a disk with the appliance on it. A stranger's is looked
// at within bounds first.
func readLayout(f *os.File, size int64) (l layout, err error) {
	looked, err := guest.ReadTable(f, size)
	if err != nil {
		return l, fmt.Errorf("%w: its partition table: %w", ErrBase, err)
	}
	if looked.Table != "gpt" || looked.Backup == 0 {
		return l, fmt.Errorf("%w: it has no partition table as the appliance's image has: take hyper2kvm.raw, as make image builds it", ErrBase)
	}
	l.code = make([]byte, bootCode)
	if _, err := f.ReadAt(l.code, 0); err != nil {
		return l, err
	}
	table, err := gpt.Read(file.New(f, true), sector, sector)
	if err != nil {
		return l, fmt.Errorf("%w: its partition table: %w", ErrBase, err)
	}
	for _, p := range table.Partitions {
		if slices.ContainsFunc(looked.Partitions, func(q guest.Partition) bool { return q.Number == p.Index }) {
			l.parts = append(l.parts, p)
		}
	}
	return l, nil
}

// keep leaves those partitions that make the appliance.
func (l *layout) keep(is func(*gpt.Partition) bool) error {
	l.parts = slices.DeleteFunc(l.parts, func(p *gpt.Partition) bool { return !is(p) })
	slices.SortFunc(l.parts, func(a, b *gpt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	for _, t := range []gpt.Type{typeESP, typeRoot} {
		if !slices.ContainsFunc(l.parts, func(p *gpt.Partition) bool { return p.Type == t }) {
			return fmt.Errorf("%w: it has no partition of the type %s, as the appliance has one: take hyper2kvm.raw, as make image builds it", ErrBase, strings.ToLower(string(t)))
		}
	}
	at := int64(headSize)
	for _, p := range l.parts {
		if start(p) < at {
			return fmt.Errorf("%w: its partitions lie over one another, or over the table", ErrBase)
		}
		at = start(p) + length(p)
	}
	if at > mostDisk {
		return fmt.Errorf("%w: it has more than %d GiB", ErrBase, mostDisk>>30)
	}
	return nil
}

func start(p *gpt.Partition) int64  { return int64(p.Start) * sector }
func length(p *gpt.Partition) int64 { return int64(p.End-p.Start+1) * sector }

// end is where the last partition ends.
func (l *layout) end() int64 {
	if len(l.parts) == 0 {
		return headSize
	}
	last := l.parts[len(l.parts)-1]
	return start(last) + length(last)
}

// add puts the seed volume behind the others, aligned as they are. Its type is one that
// systemd-repart does not take for the partition of what the appliance keeps.
func (l *layout) add(seedSize int64) {
	at := aligned(l.end())
	next := 1
	for _, p := range l.parts {
		next = max(next, p.Index+1)
	}
	l.parts = append(l.parts, &gpt.Partition{Index: next, Start: uint64(at / sector), End: uint64((at+seedSize)/sector - 1), Size: uint64(seedSize),
		Type: gpt.MicrosoftBasicData, Name: seedPartition, GUID: uuid.NewString()})
}

// aligned is the next place at which a partition may begin.
func aligned(at int64) int64 { return (at + mib - 1) / mib * mib }

// frame is what lies before and behind the partitions of an image with this layout, and
// the image's size. Its disk has a GUID of its own.
func (l *layout) frame() (head, tail []byte, size int64, err error) {
	size = aligned(l.end()) + mib
	folder, err := proc.PrivateDir()
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	f, err := os.Create(filepath.Join(folder, "table"))
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return nil, nil, 0, err
	}
	table := gpt.Table{Partitions: l.parts, LogicalSectorSize: sector, PhysicalSectorSize: sector, GUID: uuid.NewString(), ProtectiveMBR: true}
	if err := table.Write(f, size); err != nil {
		return nil, nil, 0, err
	}
	head, tail = make([]byte, headSize), make([]byte, tailSize)
	_, err1 := f.ReadAt(head, 0)
	_, err2 := f.ReadAt(tail, size-tailSize)
	copy(head, l.code)
	return head, tail, size, errors.Join(err1, err2)
}
