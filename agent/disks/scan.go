package disks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
)

// disk is one that is attached, with what is on it.
type disk struct {
	block
	contents
	id      string
	lasting bool
	note    string
	ours    bool // it is read-only because of what it was chosen for, if it is
}

// left is a disk that is the appliance's own or that something uses, and why it is not
// among the others.
type left struct{ name, why string }

// ownParts is what the partitions of an appliance's disk are called: hyper2kvm-root. Such
// a disk is never taken for a guest's.
const ownParts = "hyper2kvm-"

// scan looks at all disks. What was chosen may be in use by those who were to use it.
func (k *Keeper) scan(ctx context.Context) (list []disk, others []left, err error) {
	blocks, err := k.blocks()
	if err != nil {
		return nil, nil, err
	}
	users, err := k.users()
	if err != nil {
		return nil, nil, err
	}
	from := k.bootedFrom()
	for _, b := range blocks {
		chosen := k.chosen(b)
		if why := k.usedBy(b, users); why != "" && !chosen {
			others = append(others, left{b.name, why})
			continue
		}
		d := disk{block: b, contents: k.look(ctx, b, !chosen, k.Log)}
		switch {
		case d.busy:
			others = append(others, left{b.name, "is in use, and the kernel does not say by what"})
		case d.isOwn(from):
			others = append(others, left{b.name, "is an appliance's own"})
		default:
			list = append(list, d)
		}
	}
	k.name(list)
	return list, others, nil
}

func (k *Keeper) usedBy(b block, users map[string]string) string {
	if why := users[b.name]; why != "" {
		return why
	}
	if on := k.holders(b.name); len(on) > 0 {
		return "is part of " + strings.Join(on, ", ")
	}
	return ""
}

func (d disk) isOwn(from string) bool {
	return slices.ContainsFunc(d.parts, func(p model.DiskPart) bool {
		return strings.HasPrefix(p.Name, ownParts) || from != "" && p.UUID == from
	})
}

// identities are what a disk can be known by, the best first: what it says of itself,
// and where it says nothing, what is written on it.
func (d disk) identities() []string {
	list := slices.Clone(d.ids)
	switch {
	case d.table == "gpt", d.table == "mbr" && strings.Trim(d.contents.id, "0") != "":
		list = append(list, d.table+"-"+plain(d.contents.id))
	case len(d.parts) == 1 && d.parts[0].Number == 0 && d.parts[0].FileSystemUUID != "":
		list = append(list, bounded("fs-"+plain(d.parts[0].FileSystemUUID)))
	}
	return list
}

// Sentences for people, of disks that are hard to know again.
const (
	byContent = "it has no serial number of its own: it is known by what is written on it, and has another ID when that is written anew"
	byNothing = "it has no serial number of its own and no partition table: it is known until it is pulled out or the appliance restarts; give it a serial number where the virtual machine is defined, or a partition table"
	byTwo     = "%s says of itself what %s says too: either is known until it is pulled out or the appliance restarts"
)

// name gives each disk its ID. One that was chosen keeps its ID for as long as it is
// attached, whatever is written on it.
func (k *Keeper) name(list []disk) {
	for i := range list {
		d := &list[i]
		ids := d.identities()
		if c := k.attached(d.block); c != nil {
			d.id, d.lasting, d.ours = c.ID, slices.Contains(ids, c.ID), !c.Protected
			continue
		}
		d.id, d.note = k.passing(d.block), byNothing
		if len(ids) == 0 {
			continue
		}
		if twin := namesake(list, i, ids[0]); twin != "" {
			d.note = fmt.Sprintf(byTwo, d.block.name, twin)
			continue
		}
		d.id, d.lasting, d.note = ids[0], true, ""
		if len(d.ids) == 0 {
			d.note = byContent
		}
	}
}

// namesake is another disk that could be known by the same ID; "" if there is none.
func namesake(list []disk, i int, id string) string {
	for j, other := range list {
		if j == i {
			continue
		}
		if ids := other.identities(); len(ids) > 0 && ids[0] == id {
			return other.block.name
		}
	}
	return ""
}

// passing is the ID of a disk that has none: no other disk has it in this life of the
// kernel, nor the same disk when it is plugged in again.
//
// Source: Linux Documentation/ABI/stable/sysfs-block, diskseq.
func (k *Keeper) passing(b block) string { return fmt.Sprintf("boot-%.8s-%d", k.boot, b.seq) }
