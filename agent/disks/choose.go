package disks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
)

// Use chooses what a disk is for. The same choice again changes nothing.
func (k *Keeper) Use(ctx context.Context, id string, asked model.DiskUse) (model.Disk, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, err := k.find(ctx, id)
	if err != nil {
		return model.Disk{}, err
	}
	confirmed := asked.Confirm != "" && slices.Contains([]string{d.id, d.serial}, asked.Confirm)
	asked.Confirm = ""
	if c := k.choice(id); c != nil {
		if c.Asked == asked && c.Taken == "" {
			return k.show(d), nil
		}
		if _, err := k.understand(d, asked, confirmed); err != nil { // the one before stays
			return model.Disk{}, err
		}
		if err := k.release(*c); err != nil {
			return model.Disk{}, err
		}
		if d, err = k.find(ctx, id); err != nil { // nobody uses it any more
			return model.Disk{}, err
		}
	}
	if d, err = k.choose(ctx, d, asked, confirmed); err != nil {
		return model.Disk{}, err
	}
	return k.show(d), nil
}

// choose makes a choice, and tells the disk as it is then.
func (k *Keeper) choose(ctx context.Context, d disk, asked model.DiskUse, confirmed bool) (disk, error) {
	use, err := k.understand(d, asked, confirmed)
	if err != nil {
		return d, err
	}
	if use.Format != "" {
		if d, err = k.formatted(ctx, d, use); err != nil {
			return d, err
		}
	}
	c := choice{ID: d.id, Asked: asked, Use: use, Boot: k.boot, Seq: d.seq, Protected: d.readOnly, Size: d.size, Model: d.model, Serial: d.serial}
	k.begin(ctx, c, d)
	if l := k.live[d.id]; l.note != "" && l.mount == nil { // it is as it was, and nothing is kept
		err := fmt.Errorf("%w: %s", ErrMount, l.note)
		return d, errors.Join(err, k.end(c))
	}
	err = k.keep(c)
	k.tell()
	return d, err
}

// understand holds a choice to what can be, and fills in what it leaves open.
func (k *Keeper) understand(d disk, use model.DiskUse, confirmed bool) (model.DiskUse, error) {
	if d.stuck != "" {
		return use, fmt.Errorf("%w: what is on %s is %s", ErrInput, d.id, d.sentence())
	}
	if use.As != model.DiskUseAsStorage && (use.Name != "" || use.Partition != 0 || use.Use != "" || use.Format != "") {
		return use, fmt.Errorf("%w: name, partition, use and format are for a storage", ErrInput)
	}
	switch use.As {
	case model.DiskUseAsSource:
		if use.Erase {
			return use, fmt.Errorf("%w: nothing of a source is ever erased: leave out erase", ErrInput)
		}
		return use, nil
	case model.DiskUseAsTarget:
		return use, d.mayBeLost(use.Erase, confirmed)
	}
	return k.storage(d, use, confirmed)
}

// mayBeLost tells why what is on a disk may not be lost.
func (d disk) mayBeLost(erase, confirmed bool) error {
	known := d.id
	if d.serial != "" {
		known += " or " + plainText(d.serial)
	}
	switch {
	case d.readOnly && !d.ours:
		return fmt.Errorf("%w: %s is write-protected", ErrInput, d.id)
	case !d.empty && !erase:
		return fmt.Errorf("%w: %s: %s; choose another disk, or say erase if that may be lost", ErrHolds, d.id, d.sentence())
	case !confirmed:
		return fmt.Errorf("%w: write the disk's ID or serial number into confirm: %s (%s)", ErrConfirm, known, d.sentence())
	}
	return nil
}

// storage is understand for a file system.
func (k *Keeper) storage(d disk, use model.DiskUse, confirmed bool) (model.DiskUse, error) {
	if use.Use == "" {
		use.Use = model.DiskUseUseSource
	}
	reads := use.Use == model.DiskUseUseSource
	makes, label := string(use.Format), ""
	switch {
	case use.Format != "" && (reads || use.Partition != 0):
		return use, fmt.Errorf("%w: a file system is made on the whole disk, and for results: write use target or both, and no partition", ErrInput)
	case use.Format != "":
		if err := d.mayBeLost(use.Erase, confirmed); err != nil {
			return use, err
		}
	case use.Erase:
		return use, fmt.Errorf("%w: a storage is erased when a file system is made on it: write format, or leave out erase", ErrInput)
	default:
		p, err := d.part(use.Partition)
		if err != nil {
			return use, err
		}
		use.Partition, label, makes = p.Number, p.Label, p.FileSystem
	}
	if err := mountable(makes); err != nil {
		return use, err
	}
	if !reads && d.readOnly && !d.ours {
		return use, fmt.Errorf("%w: %s is write-protected: write use source", ErrInput, d.id)
	}
	return use, k.called(d.id, &use, label)
}

// part is the file system that a storage is to be on.
func (d disk) part(number int) (model.DiskPart, error) {
	var found []model.DiskPart
	var names []string
	for _, p := range d.parts {
		if systems[p.FileSystem].known && (number == 0 || p.Number == number) {
			found, names = append(found, p), append(names, fmt.Sprintf("%d (%s)", p.Number, held(p)))
		}
	}
	switch {
	case len(found) == 0:
		return model.DiskPart{}, fmt.Errorf("%w: there is no file system on it that can be mounted: %s", ErrInput, d.sentence())
	case len(found) > 1:
		return model.DiskPart{}, fmt.Errorf("%w: there are several file systems on it: write partition, one of %s", ErrInput, strings.Join(names, ", "))
	}
	return found[0], nil
}

// called gives a storage a name that no other one has.
func (k *Keeper) called(id string, use *model.DiskUse, label string) error {
	if use.Name == "" {
		use.Name = nameOf(label)
	}
	taken := slices.Contains(k.Reserved(), use.Name) || slices.ContainsFunc(k.choices, func(c choice) bool { return c.Use.Name == use.Name && c.ID != id })
	if taken {
		return fmt.Errorf("%w: there is a storage %s: write another name", ErrInput, use.Name)
	}
	return nil
}

// longestName is how long the name of a storage may be.
const longestName = 63

// nameOf is what a storage is called if nobody says.
func nameOf(label string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(label)), "-")
	if name == "" {
		return "attached"
	}
	return strings.Trim(name[:min(len(name), longestName)], "-")
}

// Release takes a choice back. Where there is none nothing is done.
func (k *Keeper) Release(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.choice(id)
	if c == nil {
		_, err := k.find(ctx, id)
		return err
	}
	return k.release(*c)
}

func (k *Keeper) release(c choice) error {
	uses := []string{"disk:" + Offer(string(c.Use.As), c.ID)}
	if c.Use.As == model.DiskUseAsStorage {
		uses = []string{"storage:" + c.Use.Name}
	}
	for _, use := range uses {
		if list := k.Migrations(use); len(list) > 0 {
			return fmt.Errorf("%w: by the migration %s: wait for its end, or cancel it", ErrInUse, strings.Join(list, ", "))
		}
	}
	if err := k.end(c); err != nil {
		return err
	}
	k.forget(c.ID)
	k.tell()
	return k.save()
}

// end takes back what follows from a choice.
func (k *Keeper) end(c choice) error {
	l := k.live[c.ID]
	if l == nil {
		return nil
	}
	if err := l.mount.close(); err != nil {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	delete(k.live, c.ID)
	err := k.unlink(l.disk)
	if !c.Protected && (c.Use.As == model.DiskUseAsSource || l.mount != nil && l.mount.reads) {
		err = errors.Join(err, k.protect(l.disk, false))
	}
	return err
}
