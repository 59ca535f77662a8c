package downloads

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
)

// Config is what a Keeper is opened with.
type Config struct {
	Folder   string // its own
	Sealer   *seal.Sealer
	Storages storage.Reached
	Machine  Machine
	Starter  Starter
	Version  string // of the appliance
	Now      func() time.Time
	Log      *slog.Logger
}

// Starter is who knows what the appliance starts from.
type Starter interface {
	// Copied has that copied into a file, and leaves in the copy what starts the version
	// that runs.
	Copied(ctx context.Context, file string, copy func() error) error
}

// Keeper makes downloads, and keeps them until they are over. It may be used by many at
// once. One that is being made is lost with the agent; one that is ready is not.
type Keeper struct {
	Config
	making context.Context // of all that are being made
	cancel context.CancelFunc
	turn   chan struct{} // one is made at a time
	ended  sync.WaitGroup

	mu      sync.Mutex
	all     map[string]*known
	checked map[string]bool // archives, by place and version
}

// known is what is known of a download.
type known struct {
	model.Download
	recipe *recipe // nil unless it is ready
}

// Request is what is asked for.
type Request struct {
	Form       model.DownloadForm
	Values     map[string]string // of firstboot's keys
	Base       *model.Place      // nil: the appliance's own disk
	Life       time.Duration     // zero: DefaultLife
	By         string
	Invitation string // that a token among the values is of
}

// How long downloads last: as invitations do, which may be in them.
const (
	DefaultLife = fleet.DefaultInvitation
	LongestLife = fleet.LongestInvitation
	most        = 32 // downloads at a time
)

// Open opens what is kept in a folder, which is made if it is not there.
func Open(c Config) (*Keeper, error) {
	k := &Keeper{Config: c, turn: make(chan struct{}, 1), all: map[string]*known{}, checked: map[string]bool{}}
	k.making, k.cancel = context.WithCancel(context.Background())
	if err := errors.Join(os.MkdirAll(k.kept(), 0o700), os.MkdirAll(k.records(), 0o700)); err != nil {
		return nil, err
	}
	return k, k.load()
}

// Close gives up what is being made.
func (k *Keeper) Close() error {
	k.cancel()
	k.ended.Wait()
	return nil
}

// Make begins to make a download. What is wrong with what was asked for is told at once;
// what comes to light later is told by the download, which is then failed.
func (k *Keeper) Make(r Request) (model.Download, error) {
	r.Values = maps.Clone(r.Values)
	seed, err := firstboot.NewSeed(r.Values)
	if err != nil {
		return model.Download{}, err
	}
	r.Life = cmp.Or(r.Life, DefaultLife)
	if r.Life < time.Minute || r.Life > LongestLife {
		return model.Download{}, fmt.Errorf("%w: it lasts a minute at least and 7 days at most", ErrInput)
	}
	if r.Base == nil {
		if _, err := k.Machine.rootHash(); err != nil {
			return model.Download{}, err
		}
	}
	d := k.begun(r)
	if err := k.enter(&known{Download: d}); err != nil {
		return model.Download{}, err
	}
	k.ended.Go(func() { k.make(r, seed, d) })
	return d, nil
}

func (k *Keeper) begun(r Request) model.Download {
	name, _, _ := strings.Cut(cmp.Or(strings.TrimSpace(r.Values["hostname"]), "hyper2kvm"), ".")
	now := k.Now().UTC().Truncate(time.Second)
	d := model.Download{ID: strings.ToLower(rand.Text()[:16]), Form: r.Form, State: model.DownloadStatePreparing, By: r.By, Created: now, Expires: now.Add(r.Life), Invitation: r.Invitation,
		Name: strings.ToLower(name) + "." + string(r.Form), Keys: slices.Sorted(maps.Keys(r.Values))}
	d.Href = "/api/v1/appliance/downloads/" + d.ID + "/" + d.Name
	return d
}

func (k *Keeper) enter(d *known) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) >= most {
		return fmt.Errorf("%w: there are %d: delete some", ErrMany, len(k.all))
	}
	k.all[d.ID] = d
	return nil
}

// make makes a download when it is its turn.
func (k *Keeper) make(r Request, seed firstboot.Seed, d model.Download) {
	var made *recipe
	err := k.alone(k.making, func() (err error) {
		made, err = k.recipe(k.making, r, seed)
		if err == nil {
			d.State, d.Size, d.Etag = model.DownloadStateReady, made.size(), `"`+d.ID+`"`
			err = k.save(d, made)
		}
		return err
	})
	if err != nil {
		k.Log.Warn("a download could not be made", "download", d.ID, "err", err)
		d.State, d.Size, d.Etag, d.Detail, made = model.DownloadStateFailed, 0, "", err.Error(), nil
	}
	k.mu.Lock()
	_, wanted := k.all[d.ID]
	if wanted {
		k.all[d.ID] = &known{d, made}
	}
	k.mu.Unlock()
	if wanted || err != nil {
		return
	}
	if err := k.forget(d.ID); err != nil { // it was deleted meanwhile
		k.Log.Warn("a download could not be removed", "download", d.ID, "err", err)
	}
}

func (k *Keeper) recipe(ctx context.Context, r Request, seed firstboot.Seed) (*recipe, error) {
	if r.Form == model.DownloadFormOva {
		return k.ova(ctx, r.Base, r.Values)
	}
	return k.raw(ctx, r.Base, seed)
}

// alone does something when nothing else is made or swept.
func (k *Keeper) alone(ctx context.Context, do func() error) error {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// List is all downloads that are not over, the newest first.
func (k *Keeper) List() []model.Download {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := []model.Download{}
	for _, d := range k.all {
		if k.Now().Before(d.Expires) {
			list = append(list, d.Download)
		}
	}
	slices.SortFunc(list, func(a, b model.Download) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Find is one of them, or an error that wraps ErrUnknown or ErrGone.
func (k *Keeper) Find(id string) (model.Download, error) {
	d, err := k.find(id)
	if err != nil {
		return model.Download{}, err
	}
	return d.Download, nil
}

func (k *Keeper) find(id string) (*known, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.all[id]
	switch {
	case d == nil:
		return nil, fmt.Errorf("%w: %.80q", ErrUnknown, id)
	case !k.Now().Before(d.Expires):
		return nil, fmt.Errorf("%w: it ran out at %s: make another one", ErrGone, d.Expires.Format(time.RFC3339))
	}
	return d, nil
}

// Content is a download's file.
type Content struct {
	*io.SectionReader
	io.Closer
}

// Content opens a download that is ready, by its name. The caller closes it.
func (k *Keeper) Content(id, name string) (model.Download, *Content, error) {
	d, err := k.find(id)
	switch {
	case err != nil:
		return model.Download{}, nil, err
	case d.Name != name:
		return model.Download{}, nil, fmt.Errorf("%w: its file is %s", ErrUnknown, d.Name)
	case d.State == model.DownloadStateFailed:
		return model.Download{}, nil, fmt.Errorf("%w: it could not be made: %s", ErrGone, d.Detail)
	case d.recipe == nil:
		return model.Download{}, nil, ErrNotYet
	}
	s, err := k.follow(d.recipe)
	if err != nil {
		return model.Download{}, nil, err
	}
	return d.Download, &Content{io.NewSectionReader(s.pieces, 0, s.pieces.size()), s}, nil
}

// Remove removes a download. A token in it stays what it is.
func (k *Keeper) Remove(id string) error {
	if _, err := k.find(id); err != nil {
		return err
	}
	return k.forget(id)
}

func (k *Keeper) forget(id string) error {
	k.mu.Lock()
	delete(k.all, id)
	k.mu.Unlock()
	return k.drop(id)
}

// Sweep removes downloads that are over, and what was kept for them.
func (k *Keeper) Sweep(ctx context.Context) error {
	return k.alone(ctx, func() error {
		k.mu.Lock()
		var over []string
		used := map[string]bool{}
		for id, d := range k.all {
			if !k.Now().Before(d.Expires) {
				over = append(over, id)
			} else if d.recipe != nil {
				for _, p := range d.recipe.Parts {
					used[p.From] = true
				}
			}
		}
		k.mu.Unlock()
		var err error
		for _, id := range over {
			err = errors.Join(err, k.forget(id))
		}
		return errors.Join(err, k.sweepKept(used))
	})
}
