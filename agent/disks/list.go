package disks

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"hyper2kvm/agent/api/model"
)

// List is all disks that are attached, and those that were chosen and are not.
func (k *Keeper) List(ctx context.Context) ([]model.Disk, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list, _, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	all := []model.Disk{}
	for _, d := range list {
		all = append(all, k.show(d))
	}
	for _, c := range k.choices {
		if !slices.ContainsFunc(list, func(d disk) bool { return d.id == c.ID }) {
			all = append(all, absent(c))
		}
	}
	return all, nil
}

// Find is the path of a disk that is attached and that nothing uses, whatever agents have
// chosen it for. It is made if it is not there.
func (m Machine) Find(ctx context.Context, id string, log *slog.Logger) (string, error) {
	k := &Keeper{Config: Config{Machine: m, Log: log}, boot: m.life()}
	list, others, err := k.scan(ctx)
	if err != nil {
		return "", err
	}
	d, err := k.among(list, others, id)
	if err != nil {
		return "", err
	}
	return m.Path(id), m.link(d)
}

// current is all disks as they are now, after what the choices say was done. Whatever
// comes or goes from now on is another look's.
func (k *Keeper) current(ctx context.Context) (list []disk, others []left, err error) {
	seen, err := k.glance()
	if err != nil {
		return nil, nil, err
	}
	if list, others, err = k.scan(ctx); err != nil {
		return nil, nil, err
	}
	k.seen = seen
	return list, others, k.settle(ctx, list)
}

// Disk is one of List.
func (k *Keeper) Disk(ctx context.Context, id string) (model.Disk, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, err := k.find(ctx, id)
	if err == nil {
		return k.show(d), nil
	}
	if c := k.choice(id); c != nil {
		return absent(*c), nil
	}
	return model.Disk{}, err
}

// find is a disk that is attached.
func (k *Keeper) find(ctx context.Context, id string) (disk, error) {
	list, others, err := k.current(ctx)
	if err != nil {
		return disk{}, err
	}
	return k.among(list, others, id)
}

func (k *Keeper) among(list []disk, others []left, id string) (disk, error) {
	if i := slices.IndexFunc(list, func(d disk) bool { return d.id == id }); i >= 0 {
		return list[i], nil
	}
	for _, o := range others {
		if b := k.block(o.name); slices.Contains(b.ids, id) {
			return disk{}, fmt.Errorf("%w: %s %s", ErrInUse, id, o.why)
		}
	}
	return disk{}, fmt.Errorf("%w: %s is not attached; %s", ErrUnknown, id, there(list))
}

func there(list []disk) string {
	if len(list) == 0 {
		return "no disk is, but those that the appliance itself uses"
	}
	var ids []string
	for _, d := range list {
		ids = append(ids, d.id)
	}
	return "attached are " + strings.Join(ids, ", ")
}

// show is a disk for people.
func (k *Keeper) show(d disk) model.Disk {
	v := model.Disk{ID: d.id, Lasting: d.lasting, Note: d.note, Present: true, Device: k.node(d.block.name), Path: k.Path(d.id), Size: d.size, Model: plainText(d.model), Serial: plainText(d.serial),
		Bus: d.bus, Removable: d.removable, ReadOnly: d.readOnly, Table: d.table, Holds: d.sentence(), Parts: append([]model.DiskPart{}, d.parts...)}
	if c := k.choice(d.id); c != nil {
		v.Use = c.Use
		if c.Taken != "" {
			v.Note = "the migration " + c.Taken + " has written to it, or does: choose it again for another one"
		}
	}
	if l := k.live[d.id]; l != nil && l.note != "" {
		v.Note = l.note
	}
	return v
}

// absent is a disk that was chosen and is not attached.
func absent(c choice) model.Disk {
	return model.Disk{ID: c.ID, Lasting: true, Size: c.Size, Model: plainText(c.Model), Serial: plainText(c.Serial), Holds: "not known: it is not attached", Parts: []model.DiskPart{}, Use: c.Use,
		Note: "it is not attached; what it was chosen for is so again when it is"}
}

// plainText is what a disk says, without what a terminal would obey.
func plainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}
