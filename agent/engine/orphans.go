package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Between the record of a migration, the list of the files that are kept of it, and the
// files and their pieces, the agent may be killed. What is left then is found by nobody,
// and taken away here.

// sweepKept takes away lists and files without a migration, and pieces of no file. What is young is left: it may be written now.
func (e *Engine) sweepKept(ctx context.Context, now time.Time) error {
	if err := e.sweepLists(ctx, now); err != nil {
		return err
	}
	whole, err := e.sweepFiles(ctx, now)
	if err != nil {
		return err
	}
	return e.sweepPieces(ctx, now, whole)
}

func (e *Engine) sweepLists(ctx context.Context, now time.Time) error {
	keys, err := e.States().List(ctx, keptPrefix)
	for _, key := range keys {
		id := strings.TrimPrefix(key, keptPrefix)
		if _, unknown := e.entry(ctx, id); !errors.Is(unknown, ErrUnknown) {
			continue
		}
		list, failed := e.bus.states.Get(ctx, key)
		switch {
		case errors.Is(failed, jetstream.ErrKeyNotFound):
		case failed != nil:
			err = errors.Join(err, failed)
		case now.Sub(list.Created()) > young:
			e.config.Log.Info("files of a migration that is forgotten are taken away", "migration", id)
			err = errors.Join(err, e.forgetKept(ctx, id))
		}
	}
	return err
}

// sweepFiles takes files away of migrations that nobody knows, and returns by what the
// pieces of the others are known. Those of a migration stay as long as its record, listed
// or not: earlier versions had no lists.
func (e *Engine) sweepFiles(ctx context.Context, now time.Time) (whole map[string]bool, err error) {
	w, err := e.bus.kept.Watch(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list what is kept: %w", err)
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	whole = map[string]bool{}
	for {
		var f *jetstream.ObjectInfo
		select {
		case f = <-w.Updates():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if f == nil {
			return whole, nil
		}
		whole[f.NUID] = true
		if now.Sub(f.ModTime) <= young {
			continue
		}
		of, path, _ := strings.Cut(f.Name, "/")
		if _, unknown := e.entry(ctx, of); !errors.Is(unknown, ErrUnknown) {
			continue
		}
		e.config.Log.Info("a file of a migration that is forgotten is taken away", "migration", of, "file", path)
		if err := e.bus.kept.Delete(ctx, f.Name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
			return nil, err
		}
	}
}

// pieces begins the subjects of the files' content.
//
// Source: nats.go, jetstream/object.go, objAllChunksPreTmpl.
const pieces = "$O.kept.C."

func (e *Engine) sweepPieces(ctx context.Context, now time.Time, whole map[string]bool) error {
	stream, err := e.bus.js.Stream(ctx, "OBJ_"+files.Bucket)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(pieces+">"))
	if err != nil {
		return fmt.Errorf("list the pieces of what is kept: %w", err)
	}
	for subject := range info.State.Subjects {
		if whole[strings.TrimPrefix(subject, pieces)] {
			continue
		}
		last, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && now.Sub(last.Time) <= young {
			continue
		}
		if err != nil {
			return err
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("take away pieces of no file: %w", err)
		}
	}
	return nil
}
