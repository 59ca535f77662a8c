package pipeline

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
)

// Growth is a disk that the operator wants larger.
type Growth struct {
	Disk int   `json:"disk"`           // in the machine's order, from 0
	Size int64 `json:"size"`           // bytes
	More bool  `json:"more,omitempty"` // than the disk has
	// Volume of LVM that grows with it; "" leaves the choice to the plan.
	Volume string `json:"volume,omitempty"`
}

const (
	sectorSize = 512
	// maxDisk is the largest that a disk grows to: as large as VMware's.
	// Source: VMware Configuration Maximums, vSphere 8.
	maxDisk = 62 << 40
)

// ParseGrowth reads what a flag says: 0=20G is a size, and 0=+4G what is added; a
// logical volume may stand behind it: 0=+4G:srv, or 0=+4G:vg/srv.
func ParseGrowth(texts []string) ([]Growth, error) {
	var list []Growth
	for _, text := range texts {
		number, amount, _ := strings.Cut(text, "=")
		disk, err := strconv.Atoi(number)
		if err != nil || disk < 0 {
			return nil, fmt.Errorf("%q names no disk: write its number, from 0, and its size, such as 0=20G or 0=+4G", text)
		}
		amount, volume, named := strings.Cut(amount, ":")
		amount, more := strings.CutPrefix(amount, "+")
		size, err := transfer.ParseSize(amount)
		switch {
		case err != nil:
			return nil, err
		case size%sectorSize != 0:
			return nil, fmt.Errorf("%q is no multiple of %d bytes, as disks' sizes are", amount, sectorSize)
		case named && volume == "":
			return nil, fmt.Errorf("%q names no logical volume behind its colon", text)
		case slices.ContainsFunc(list, func(g Growth) bool { return g.Disk == disk }):
			return nil, fmt.Errorf("disk %d is named twice", disk)
		}
		list = append(list, Growth{disk, size, more, volume})
	}
	return list, nil
}

// of is the size that a disk of some bytes grows to.
func (g Growth) of(size int64) int64 {
	if g.More {
		return size + g.Size
	}
	return g.Size
}

// approvedGrowth are the sizes that an approved plan gives to disks.
func approvedGrowth(p fixers.Plan) (list []Growth) {
	for _, r := range p.Resizes {
		var g Growth
		if n, err := fmt.Sscanf(r.Disk, "disk%d", &g.Disk); n == 1 && err == nil {
			g.Size = r.To
			if r.Volume != nil {
				g.Volume = r.Volume.Name
			}
			list = append(list, g)
		}
	}
	return list
}

// mayGrow refuses what cannot be done, before anything is. A disk is never made
// smaller: file systems, partitions and tables may use all of it, and its end is
// what would be cut off.
func (r *Run) mayGrow() error {
	for _, g := range r.Options.Grow {
		if g.Disk < 0 || g.Disk >= len(r.Machine.Disks) {
			return fmt.Errorf("%w: there is no disk %d to grow; the machine has %d, and the first is disk 0", source.ErrBadInput, g.Disk, len(r.Machine.Disks))
		}
		now := r.Machine.Disks[g.Disk].Size
		switch {
		case g.of(now) > maxDisk:
			return fmt.Errorf("%w: disk %d is not grown beyond %d TiB; give it less", source.ErrBadInput, g.Disk, maxDisk>>40)
		case g.of(now) < now:
			return fmt.Errorf("%w: disk %d has %s and is not made smaller than that: what lies at its end would be cut off; move its data to a smaller disk in the guest, or leave its size as it is",
				source.ErrBadInput, g.Disk, amount(now))
		}
	}
	return nil
}

// mayEnlarge refuses a disk whose end is where it is looked for: an array would lose
// its member.
func (r *Run) mayEnlarge(ctx context.Context, i int, s *disk.Source) (err error) {
	if larger, asked := r.larger(i, s.Size); !asked || larger == s.Size {
		return nil
	}
	d, err := transfer.Open(ctx, s.Export)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	read := func(p []byte, off int64) (int, error) { return len(p), d.Read(ctx, p, off) }
	member, err := guest.MemberAtEnd(readAt(read), s.Size)
	if member {
		err = fmt.Errorf("%w: disk %d as a whole is a member of an array, whose superblock is at the disk's end, and would not be found on a larger disk; leave its size as it is", source.ErrBadInput, i)
	}
	return err
}

// readAt is a function that reads at an offset.
type readAt func(p []byte, off int64) (int, error)

// ReadAt calls it.
func (f readAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// enlarge notes the size that a disk has from here on, and returns it: what the
// source has, unless it is to grow.
func (r *Run) enlarge(i int, size int64) int64 {
	if larger, asked := r.larger(i, size); asked {
		r.Machine.Disks[i].Was, r.Machine.Disks[i].Size = size, larger
		return larger
	}
	return size
}

// larger is the size that a disk is to grow to, if that is asked for.
func (r *Run) larger(i int, size int64) (int64, bool) {
	for _, g := range r.Options.Grow {
		if g.Disk == i {
			return g.of(size), true
		}
	}
	return size, false
}

// Sizes of a disk to plan from: the source's before FIX, and afterwards its own.
func sizeBefore(d machine.Disk) int64 { return d.Was }
func sizeNow(d machine.Disk) int64    { return d.Size }

// resizes are what is done about the disks that grow.
func (r *Run) resizes(f *inspect.Facts, from func(machine.Disk) int64) (list []guest.Resize) {
	var growing []string
	for i, d := range r.Machine.Disks {
		if d.Was == 0 {
			continue
		}
		e := r.enlarged(f, i)
		e.From, e.Checked, e.Growing = from(d), r.Checks.Before, growing
		s := f.Topology.PlanResize(diskName(i), e)
		if s.Volume != nil {
			growing = append(growing, s.Volume.Name)
		}
		if !s.Empty() {
			list = append(list, s)
		}
	}
	return list
}

func diskName(i int) string { return fmt.Sprintf("disk%d", i) }

// enlarged is what is meant to grow with a disk.
func (r *Run) enlarged(f *inspect.Facts, disk int) (e guest.Enlarged) {
	root, _ := f.MountOf("/")
	e.Root = root.Device
	for _, g := range r.Options.Grow {
		if g.Disk == disk {
			e.Volume = g.Volume
		}
	}
	return e
}

// mayGrowWith are the file systems that grow with disks, which are checked beforehand,
// mounted or not.
func (r *Run) mayGrowWith(f inspect.Facts) (devices []string) {
	for i, d := range r.Machine.Disks {
		if last, ok := f.Topology.Last(diskName(i), r.enlarged(&f, i)); ok && d.Was > 0 {
			devices = append(devices, last.Device)
		}
	}
	return devices
}

// asNamed refuses a plan in which a logical volume does not grow that the operator has
// named.
func (r *Run) asNamed(list []guest.Resize) error {
	for _, g := range r.Options.Grow {
		if g.Volume == "" {
			continue
		}
		why, try := "what is at its end is no physical volume of LVM, or has not grown", "name no volume"
		for _, s := range list {
			switch {
			case s.Disk == diskName(g.Disk) && s.Volume != nil:
				why = ""
			case s.Disk == diskName(g.Disk) && s.Unused != "":
				why, try = s.Unused, s.Try
			}
		}
		if why != "" {
			return fmt.Errorf("%w: %s cannot grow with disk %d: %s; %s", source.ErrBadInput, g.Volume, g.Disk, why, try)
		}
	}
	return nil
}

// grownWith are the file systems that have grown by the plan.
func (r *Run) grownWith() (devices []string) {
	if r.Plan == nil {
		return nil
	}
	for _, s := range r.Plan.Resizes {
		if s.Filesystem != nil {
			devices = append(devices, s.Filesystem.Device)
		}
	}
	return devices
}

// unusedCode is the concern of a disk that has grown for nothing that is on it.
const unusedCode = "disk/grown-but-not-used"

func growConcerns(list []guest.Resize) (concerns []fixer.Concern) {
	for _, s := range list {
		if s.Unused != "" {
			concerns = append(concerns, fixer.Concern{Level: fixer.Warning, Code: unusedCode, Try: s.Try,
				Text: fmt.Sprintf("%s grows from %s to %s, not all of which is put to use: %s", s.Disk, amount(s.From), amount(s.To), s.Unused)})
		}
	}
	return concerns
}

// asApproved holds what would be done about disks now to what was approved.
func (r *Run) asApproved(approved fixers.Plan) error {
	now := r.resizes(r.Facts, sizeBefore)
	if len(now)+len(approved.Resizes) > 0 && !reflect.DeepEqual(now, approved.Resizes) {
		return fmt.Errorf("%w: the disks would not grow as was approved; make a new plan", guest.ErrConflict)
	}
	return nil
}

// grow does with the disks what is planned.
func (r *Run) grow(ctx context.Context) error {
	if len(r.Plan.Resizes) == 0 {
		return nil
	}
	if err := r.guest.UnmountAll(); err != nil {
		return err
	}
	for _, s := range r.Plan.Resizes {
		r.tell(Event{Stage: "fix", State: Running, Text: "grow what is on " + s.Disk})
		if err := r.guest.Grow(ctx, s); err != nil {
			return err
		}
		r.log.Info("disk grown", "migration", r.Name, "disk", s.Disk, "from", s.From, "to", s.To, "unused", s.Unused)
	}
	return nil
}

// Grown tells of each disk whose size is not the source's, for people.
func (m *Migration) Grown() (texts []string) {
	for i, d := range m.Machine.Disks {
		if d.Was > 0 && d.Was != d.Size {
			texts = append(texts, fmt.Sprintf("disk %d has %s, and had %s in the source", i, amount(d.Size), amount(d.Was)))
		}
	}
	return texts
}
