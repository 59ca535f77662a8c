package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// File is a small file of a migration's that is to be kept.
type File struct {
	Path    string
	Size    int64 // bytes
	Changed time.Time
	Open    func() (io.ReadCloser, error)
}

// keptFile is one that is kept: the objects of all migrations lie in one store, which
// lists them all or none.
type keptFile struct {
	Path    string    `json:"path"`
	Size    int64     `json:"size"`
	Changed time.Time `json:"changed"`
}

const keptPrefix = "kept."

// Keep keeps copies of small files of a migration's, which every appliance can show.
// Those that have not changed since they were kept stay as they are. One appliance at a
// time does so for a migration, its owner.
func (e *Engine) Keep(ctx context.Context, migration string, files []File) error {
	list, revision, err := e.kept(ctx, migration)
	if err != nil {
		return err
	}
	kept := 0
	for _, f := range files {
		now := keptFile{f.Path, f.Size, f.Changed.UTC()}
		i := slices.IndexFunc(list, func(k keptFile) bool { return k.Path == f.Path })
		switch {
		case i >= 0 && list[i] == now:
			continue
		case i < 0:
			list = append(list, now)
		default:
			list[i] = now
		}
		if err := e.keepFile(ctx, migration, f); err != nil {
			return err
		}
		kept++
	}
	if kept == 0 {
		return nil
	}
	text, err := json.Marshal(list)
	switch {
	case err != nil:
		return err
	case revision == 0:
		return e.States().Create(ctx, keptPrefix+migration, text)
	}
	return e.States().Update(ctx, keptPrefix+migration, text, revision)
}

func (e *Engine) keepFile(ctx context.Context, migration string, f File) (err error) {
	if len(f.Path) > maxPath {
		return fmt.Errorf("%w: %s: paths of at most %d bytes are kept", ErrTooLarge, f.Path, maxPath)
	}
	if f.Size > maxKeptFile {
		return fmt.Errorf("%w: %s has %d bytes, and files of at most %d are kept", ErrTooLarge, f.Path, f.Size, maxKeptFile)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, err = e.bus.kept.Put(ctx, jetstream.ObjectMeta{Name: migration + "/" + f.Path}, io.LimitReader(r, maxKeptFile))
	return err
}

// kept are a migration's files that are kept, and the revision of their list; 0 if there
// is none.
func (e *Engine) kept(ctx context.Context, migration string) (list []keptFile, revision uint64, err error) {
	text, revision, err := e.States().Read(ctx, keptPrefix+migration)
	if errors.Is(err, auth.ErrNotFound) {
		return nil, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	return list, revision, err
}

// Kept are the files of a migration's that are kept.
func (e *Engine) Kept(ctx context.Context, migration string) (files []model.File, err error) {
	list, _, err := e.kept(ctx, migration)
	for _, f := range list {
		files = append(files, model.File{Path: f.Path, Size: f.Size, Kept: true})
	}
	return files, err
}

// OpenKept opens a file that is kept; fs.ErrNotExist if it is not.
func (e *Engine) OpenKept(ctx context.Context, migration, path string) (io.ReadCloser, int64, error) {
	if long(migration) || len(path) > maxPath {
		return nil, 0, fmt.Errorf("%.100s…: %w", path, fs.ErrNotExist)
	}
	o, err := e.bus.kept.Get(ctx, migration+"/"+path)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := o.Info()
	if err != nil {
		return nil, 0, errors.Join(err, o.Close())
	}
	return o, int64(info.Size), nil
}

// forgetKept removes what is kept of a migration.
func (e *Engine) forgetKept(ctx context.Context, migration string) error {
	list, revision, err := e.kept(ctx, migration)
	if revision == 0 || err != nil {
		return err
	}
	for _, f := range list {
		if gone := e.bus.kept.Delete(ctx, migration+"/"+f.Path); gone != nil && !errors.Is(gone, jetstream.ErrObjectNotFound) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		return err
	}
	return e.States().Delete(ctx, keptPrefix+migration, revision)
}
