package disks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/storage"
)

// Config is what a Keeper is opened with.
type Config struct {
	Machine
	State string // folder of the appliance's
	// Reserved are names of storages that are not on this appliance's attached disks.
	Reserved func() []string
	// Migrations are those that use something, as the engine names it, and have not come
	// to their end.
	Migrations func(use string) []string
	// Changed is told which storages there are on attached disks, and which disks
	// migrations may use: see Offers. It is called from one goroutine at a time.
	Changed func(storage.List, []string)
	Log     *slog.Logger
}

// Keeper keeps the choices, and what follows from them. It may be used by many at once.
type Keeper struct {
	Config
	boot string // this life of the kernel

	mu      sync.Mutex
	choices []choice
	live    map[string]*live // by ID
	seen    string           // the disks at the last look
}

// live is a chosen disk that is attached.
type live struct {
	disk  disk
	mount *mount
	note  string // why what follows from the choice is not so
}

// Open reads the choices. Nothing is done about them before Begin.
func Open(c Config) (*Keeper, error) {
	k := &Keeper{Config: c, live: map[string]*live{}}
	if k.boot = c.life(); k.boot == "" {
		return nil, errors.New("the kernel does not say which life of its this is: /proc is not mounted")
	}
	return k, errors.Join(k.load(), k.clear())
}

// Begin does what the choices say with the disks that are there. A machine that does not
// show its disks has none, and is asked again by Watch.
func (k *Keeper) Begin(ctx context.Context) error {
	if err := k.Look(ctx); err != nil {
		k.Log.Warn("attached disks could not be looked at", "err", err)
	}
	return context.Cause(ctx)
}

// every is how often is looked whether disks have come or gone.
const every = 2 * time.Second

// Watch follows disks as they come and go, until ctx ends.
func (k *Keeper) Watch(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.Look(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("attached disks could not be looked at", "err", err)
		}
	}
}

// Look does what the choices say, if disks have come or gone since the last time.
func (k *Keeper) Look(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, err := k.glance()
	if err != nil || now == k.seen {
		return err
	}
	_, _, err = k.current(ctx)
	return err
}

// glance is the disks in one word, without reading them.
func (k *Keeper) glance() (string, error) {
	blocks, err := k.blocks()
	var b strings.Builder
	for _, v := range blocks {
		fmt.Fprintf(&b, "%s %d %d\n", v.name, v.seq, v.size)
	}
	return b.String(), err
}

// settle does what the choices say with the disks that there are.
func (k *Keeper) settle(ctx context.Context, list []disk) error {
	for id, l := range k.live {
		if !slices.ContainsFunc(list, func(d disk) bool { return d.id == id && d.seq == l.disk.seq }) {
			k.Log.Warn("a disk that was chosen is gone", "disk", id)
			k.gone(id)
		}
	}
	renewed := false
	for _, d := range list {
		if c := k.choice(d.id); c != nil && k.live[d.id] == nil {
			renewed = renewed || c.Boot != k.boot || c.Seq != d.seq
			c.Boot, c.Seq = k.boot, d.seq
			k.begin(ctx, *c, d)
		}
	}
	k.tell()
	if renewed {
		return k.save()
	}
	return nil
}

// begin does what follows from a choice. What cannot be done is told with the disk.
func (k *Keeper) begin(ctx context.Context, c choice, d disk) {
	l := &live{disk: d}
	k.live[d.id] = l
	err := k.link(d)
	switch c.Use.As {
	case model.DiskUseAsSource:
		err = errors.Join(err, k.protect(d, true))
	case model.DiskUseAsStorage:
		l.mount, l.note, err = k.mount(ctx, c, d)
	}
	if err != nil {
		l.note = err.Error()
		k.Log.Warn("a chosen disk cannot be used", "disk", d.id, "err", err)
		return
	}
	k.Log.Info("a chosen disk is there", "disk", d.id, "as", c.Use.As)
}

// gone lets go of a disk that was pulled out.
func (k *Keeper) gone(id string) {
	l := k.live[id]
	delete(k.live, id)
	if err := errors.Join(l.mount.abandon(), k.unlink(l.disk)); err != nil {
		k.Log.Warn("what is left of a disk that is gone could not be removed", "disk", id, "err", err)
	}
}

// Close unmounts what is mounted. The choices stay.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var failed []error
	for id, l := range k.live {
		failed = append(failed, l.mount.close(), k.unlink(l.disk))
		delete(k.live, id)
	}
	return errors.Join(failed...)
}

// tell tells what there is now.
func (k *Keeper) tell() {
	var list storage.List
	var offers []string
	for _, c := range k.choices {
		l := k.live[c.ID]
		switch {
		case l == nil:
		case l.mount != nil:
			list = append(list, storage.Storage{Name: c.Use.Name, Path: l.mount.at, Use: model.StorageUse(c.Use.Use)})
		case l.note == "" && c.Use.As != model.DiskUseAsStorage:
			offers = append(offers, Offer(string(c.Use.As), c.ID))
		}
	}
	k.Changed(list, offers)
}

// Offer is a disk as the engine knows it, for a source or a target.
func Offer(as, id string) string { return as + ":" + id }
