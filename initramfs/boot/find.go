package boot

import (
	"strings"
	"time"
)

// Labels of the appliance's partitions.
const (
	rootLabel  = "hyper2kvm-root"
	stateLabel = "hyper2kvm-state"
)

// settled is how long no disk may have come before those that are there are taken for
// all: another one with the appliance on it may still be on its way.
const settled = 1500 * time.Millisecond

// home is where the appliance is on a disk.
type home struct {
	disk   Disk
	root   Partition
	hashes Partition // no name: the root is not checked
}

// roots are the partitions that may be the root.
func (o Options) roots(all []Partition) (list []Partition) {
	for _, p := range all {
		if o.isRoot(p) {
			list = append(list, p)
		}
	}
	return list
}

func (o Options) isRoot(p Partition) bool {
	switch {
	case o.RootHash != "":
		return p.UUID == half(o.RootHash, 0)
	case p.UUID != "" && o.Root != "":
		return p.UUID == o.Root
	}
	return p.Label == rootLabel
}

// half is the UUID that a partition has by the discoverable partitions specification: the
// root's is the first half of the hash, that of the hashes the second.
func half(hash string, part int) string {
	if len(hash) < 64 {
		return ""
	}
	h := hash[:32]
	if part == 1 {
		h = hash[len(hash)-32:]
	}
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// homes are the disks that it could be started from.
func (o Options) homes(k kernel, all []Partition) (list []home) {
	for _, p := range o.roots(all) {
		d := k.disk(p.Disk)
		if o.Disk == "" || d.known(o.Disk) {
			list = append(list, home{disk: d, root: p})
		}
	}
	return list
}

// home finds the appliance among partitions.
func (o Options) home(k kernel, all []Partition) (h home, err error) {
	homes := o.homes(k, all)
	switch len(homes) {
	case 0:
		return h, o.nowhere(k, all)
	case 1:
		h = homes[0]
	default:
		return h, sentence("this appliance is on more than one disk: %s", "take the others away, or add hyper2kvm.disk= with the name or serial number of one to the boot entry", these(homes))
	}
	for _, p := range all {
		if p.Disk == h.root.Disk && o.RootHash != "" && p.UUID == half(o.RootHash, 1) {
			h.hashes = p
		}
	}
	if o.RootHash != "" && h.hashes.Name == "" {
		return h, sentence("the disk %s has the appliance's root, and not the hashes that it is checked by", "write the image to the disk anew", h.disk)
	}
	return h, nil
}

func these(homes []home) string {
	var names []string
	for _, h := range homes {
		names = append(names, h.disk.String())
	}
	return strings.Join(names, " and ")
}

// nowhere says what there was instead.
func (o Options) nowhere(k kernel, all []Partition) error {
	var seen []string
	for _, name := range diskNames(all) {
		seen = append(seen, k.disk(name).String())
	}
	if len(seen) == 0 {
		return sentence("no disk with partitions was found in %v", "see whether the disk or stick is plugged in, try another USB port or disk controller, or add hyper2kvm.wait=120 to the boot entry", o.Wait)
	}
	if o.Disk != "" {
		return sentence("the appliance is not on the disk %s that the boot entry names; there are %s", "correct hyper2kvm.disk= in the boot entry, or leave it out", o.Disk, strings.Join(seen, ", "))
	}
	for _, p := range all {
		if p.Label == rootLabel {
			return sentence("the root of the appliance on %s is of another version than this boot entry", "choose another boot entry, or write the image to the disk anew", k.disk(p.Disk))
		}
	}
	return sentence("none of the disks %s has the appliance's root", "plug in the disk or stick that it was started from, or write the image to it anew", strings.Join(seen, ", "))
}
