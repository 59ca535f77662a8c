package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// format is of every record. A later one is refused: to write it back would lose what
// this version does not know.
const format = 1

// envelope is what stands in the store.
type envelope struct {
	Format int             `json:"format"`
	Data   json.RawMessage `json:"data"`
}

// Records are values in a store, each with the format that it is written in.
type Records struct{ Store }

// Load reads a record into v.
func (r Records) Load(ctx context.Context, key string, v any) (revision uint64, err error) {
	value, revision, err := r.Read(ctx, key)
	if err != nil {
		return 0, err
	}
	var e envelope
	if err := json.Unmarshal(value, &e); err != nil {
		return 0, fmt.Errorf("record %s: %w", kind(key), err)
	}
	if e.Format != format {
		return 0, fmt.Errorf("the record %s was written by another version (format %d, and this one knows %d): start that version, if the boot menu has it, or update this appliance", kind(key), e.Format, format)
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return 0, fmt.Errorf("record %s: %w", kind(key), err)
	}
	return revision, nil
}

// kind is a key without what is particular to one record.
func kind(key string) string {
	name, _, _ := strings.Cut(key, ".")
	return name
}

// Save puts a record at a revision that was read; 0 is of one that was not there.
func (r Records) Save(ctx context.Context, key string, v any, revision uint64) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	value, err := json.Marshal(envelope{format, data})
	if err != nil {
		return err
	}
	if revision == 0 {
		return r.Create(ctx, key, value)
	}
	return r.Update(ctx, key, value, revision)
}

// remove deletes a record. That it changed, or is gone, is no error: it was not kept for
// its content.
func (g *Gate) remove(ctx context.Context, key string) error {
	for again := range attempts {
		_, revision, err := g.store.Read(ctx, key)
		if err == nil {
			err = g.store.Delete(ctx, key, revision)
		}
		switch {
		case err == nil || errors.Is(err, ErrNotFound):
			return nil
		case !errors.Is(err, ErrChanged):
			return err
		}
		pause(ctx, again)
	}
	return ErrChanged
}

// attempts is more than appliances that change one record at the same time.
const attempts = 100

// pause lets others finish, a little longer each time.
func pause(ctx context.Context, again int) {
	wait := time.Duration(min(again, 20)) * time.Millisecond
	select {
	case <-time.After(rand.N(wait + 1)):
	case <-ctx.Done():
	}
}
