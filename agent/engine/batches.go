package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// Batch is what is kept of a batch. It is written, with all that it is to do, before
// any of it is done, and then worked off until it says that nothing is left: by the
// appliance that was asked, by that one after a crash, or by another.
type Batch struct {
	Version int                `json:"version"`
	Name    string             `json:"name"`
	By      string             `json:"by"`
	Created time.Time          `json:"created"`
	AtOnce  int                `json:"atOnce,omitempty"`
	Groups  []model.BatchGroup `json:"groups,omitempty"`
	Members []Member           `json:"members"`
	// Submitted tells that every member was begun.
	Submitted bool `json:"submitted,omitempty"`
	// Pending is what was asked of all and is not passed on to each yet.
	Pending model.BatchOrder `json:"pending,omitempty"`
	// Ordered counts what was asked of all. The last was asked by somebody, with a key.
	Ordered   int              `json:"ordered,omitempty"`
	OrderedBy string           `json:"orderedBy,omitempty"`
	Key       string           `json:"key,omitempty"`
	KeyOf     model.BatchOrder `json:"keyOf,omitempty"`

	revision uint64
	seen     time.Time // by this appliance, at that revision
}

// Member is a migration of a batch.
type Member struct {
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Spec model.Spec `json:"spec"`
}

// Errors of batches that callers decide on.
var (
	ErrNoBatch     = errors.New("no such batch")
	ErrBatchExists = errors.New("there is another batch of this name")
)

// maxBatch leaves room in a record for what its store adds, bytes.
const maxBatch = maxRecord - 4<<10

const batchPrefix = "batches."

// same tells whether two batches ask for the same.
func (b Batch) same(other Batch) bool {
	asked := func(b Batch) string {
		return digest([]any{b.AtOnce, b.Groups, b.Members})
	}
	return asked(b) == asked(other)
}

// encode is the batch as it is stored: migrations are much alike.
func (b Batch) encode() ([]byte, error) {
	var text bytes.Buffer
	z := gzip.NewWriter(&text)
	if err := errors.Join(json.NewEncoder(z).Encode(b), z.Close()); err != nil {
		return nil, err
	}
	if text.Len() > maxBatch {
		return nil, fmt.Errorf("%w: the batch's record would have %d bytes, and %d is the most: submit it in parts", ErrTooLarge, text.Len(), maxBatch)
	}
	return text.Bytes(), nil
}

// maxUnpacked bounds what a stored batch is unpacked to, bytes.
const maxUnpacked = 256 << 20

func decodeBatch(text []byte, revision uint64) (b Batch, err error) {
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, maxUnpacked)).Decode(&b)
	}
	if err != nil {
		return b, fmt.Errorf("a batch's record is damaged: %w", err)
	}
	if b.Version != recordVersion {
		return b, fmt.Errorf("the record of the batch %s is of version %d, this program reads version %d", b.Name, b.Version, recordVersion)
	}
	b.revision, b.seen = revision, time.Now()
	return b, nil
}

// SubmitBatch keeps a batch, and begins its migrations. The same may be given again.
func (e *Engine) SubmitBatch(ctx context.Context, b Batch) (model.Batch, error) {
	b.Version, b.Created = recordVersion, time.Now().UTC()
	text, err := b.encode()
	if err != nil {
		return model.Batch{}, err
	}
	was, err := e.readBatch(ctx, b.Name)
	if errors.Is(err, ErrNoBatch) {
		if err := e.free(b); err != nil {
			return model.Batch{}, err
		}
		if err = e.States().Create(ctx, batchPrefix+b.Name, text); err == nil || errors.Is(err, auth.ErrExists) {
			was, err = e.readBatch(ctx, b.Name)
		}
	}
	switch {
	case err != nil:
		return model.Batch{}, err
	case !was.same(b):
		return model.Batch{}, fmt.Errorf("%w: %s", ErrBatchExists, b.Name)
	}
	e.workOff(was)
	return e.viewBatch(was), nil
}

// free tells whether no migration has the ID of one of a new batch.
func (e *Engine) free(b Batch) error {
	for _, m := range b.Members {
		if _, ok := e.table.get(m.ID); ok {
			return fmt.Errorf("%w: %s", ErrExists, m.ID)
		}
	}
	return nil
}

// DraftBatch is a batch as it would be kept.
func (e *Engine) DraftBatch(b Batch) (model.Batch, error) {
	b.Created = time.Now().UTC()
	_, err := b.encode()
	return e.viewBatch(b), errors.Join(err, e.free(b))
}

func (e *Engine) readBatch(ctx context.Context, name string) (Batch, error) {
	text, revision, err := e.States().Read(ctx, batchPrefix+name)
	if errors.Is(err, auth.ErrNotFound) {
		return Batch{}, fmt.Errorf("%w: %s", ErrNoBatch, name)
	}
	if err != nil {
		return Batch{}, err
	}
	return decodeBatch(text, revision)
}

// changeBatch edits a batch, on what it is when it is written.
func (e *Engine) changeBatch(ctx context.Context, name string, edit func(*Batch) error) (Batch, error) {
	for {
		b, err := e.readBatch(ctx, name)
		if err != nil {
			return b, err
		}
		if err := edit(&b); err != nil {
			return b, err
		}
		text, err := b.encode()
		if err != nil {
			return b, err
		}
		err = e.States().Update(ctx, batchPrefix+name, text, b.revision)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, auth.ErrChanged) || ctx.Err() != nil {
			return b, err
		}
	}
}

// OrderBatch has something done to all migrations of a batch.
func (e *Engine) OrderBatch(ctx context.Context, name string, order model.BatchOrder, by, key string) (model.Batch, error) {
	b, err := e.changeBatch(ctx, name, func(b *Batch) error {
		switch {
		case key != "" && key == b.Key && order == b.KeyOf:
			return errAsItIs
		case key != "" && key == b.Key:
			return ErrReused
		case b.Pending == model.BatchOrderForget:
			return fmt.Errorf("%w: the batch %s is being forgotten", ErrNotNow, name)
		case order == model.BatchOrderForget:
			if err := e.batchEnded(*b); err != nil {
				return err
			}
		}
		b.Pending, b.OrderedBy, b.Key, b.KeyOf = order, by, key, order
		b.Ordered++
		return nil
	})
	if err != nil && !errors.Is(err, errAsItIs) {
		return model.Batch{}, err
	}
	e.workOff(b)
	return e.viewBatch(b), nil
}

// batchEnded tells whether nothing of a batch is left to do.
func (e *Engine) batchEnded(b Batch) error {
	if !b.Submitted {
		return fmt.Errorf("%w: the batch %s cannot be forgotten: not all its migrations are begun", ErrNotNow, b.Name)
	}
	for _, m := range b.Members {
		if r, ok := e.table.get(m.ID); ok && !r.ended() {
			return fmt.Errorf("%w: the batch %s cannot be forgotten: %s is %s; cancel it first", ErrNotNow, b.Name, m.ID, r.State)
		}
	}
	return nil
}

// Batch is a batch as the API shows it.
func (e *Engine) Batch(ctx context.Context, name string) (model.Batch, error) {
	b, err := e.readBatch(ctx, name)
	if err != nil {
		return model.Batch{}, err
	}
	return e.viewBatch(b), nil
}

// Batches are all of them, the newest first, without their migrations.
func (e *Engine) Batches() []model.Batch {
	list := []model.Batch{}
	for _, b := range e.batches.all() {
		v := e.viewBatch(b)
		v.Migrations = nil
		list = append(list, v)
	}
	return list
}

// viewBatch is a batch with how its migrations stand.
func (e *Engine) viewBatch(b Batch) model.Batch {
	v := model.Batch{Name: b.Name, Created: b.Created, By: b.By, AtOnce: b.AtOnce, Groups: b.Groups, Submitted: b.Submitted, Pending: b.Pending, Total: len(b.Members), Counts: map[string]int{}}
	for _, r := range e.expected(b) {
		m := model.BatchMember{ID: r.ID, Name: r.Name}
		if r.Revision > 0 {
			v.Counts[string(r.State)]++
			now := e.view(r.Record)
			m.State, m.Verdict, m.Why, m.Problem = now.State, now.Verdict, now.Why, now.Problem.Code
		}
		v.Migrations = append(v.Migrations, m)
	}
	return v
}

// expected are a batch's migrations in the order in which they are taken if nothing else
// is in the way. Those that are not there have no revision.
func (e *Engine) expected(b Batch) []seen {
	left := make([]seen, len(b.Members))
	for i, m := range b.Members {
		r, ok := e.table.get(m.ID)
		if !ok {
			r = seen{Record: Record{Migration: model.Migration{ID: m.ID, Name: m.Name, Spec: m.Spec, Created: b.Created.Add(time.Duration(i))}}}
		}
		left[i] = r
	}
	return inOrder(left)
}

// inOrder sorts migrations as they are due, each behind those that it comes after.
func inOrder(left []seen) (order []seen) {
	slices.SortFunc(left, func(a, b seen) int { return due(&a, &b) })
	waiting := map[string]seen{}
	for _, r := range left {
		waiting[r.ID] = r
	}
	var place func(id string)
	place = func(id string) {
		r, ok := waiting[id]
		if !ok {
			return
		}
		delete(waiting, id) // first: a circle would end here
		for _, before := range r.Spec.Schedule.After {
			place(before)
		}
		order = append(order, r)
	}
	for _, r := range left {
		place(r.ID)
	}
	return order
}

// nameOfBatch is the batch whose record is at a key.
func nameOfBatch(key string) string { return strings.TrimPrefix(key, batchPrefix) }
