package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// Keep keeps a copy of a small file of a migration's, which every appliance can show.
func (e *Engine) Keep(ctx context.Context, migration, path string, size int64, r io.Reader) error {
	if size > maxKeptFile {
		return fmt.Errorf("%w: %s has %d bytes, and files of at most %d are kept", ErrTooLarge, path, size, maxKeptFile)
	}
	_, err := e.bus.kept.Put(ctx, jetstream.ObjectMeta{Name: migration + "/" + path}, io.LimitReader(r, maxKeptFile))
	return err
}

// Kept are the files of a migration's that are kept.
func (e *Engine) Kept(ctx context.Context, migration string) ([]model.File, error) {
	all, err := e.bus.kept.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	var list []model.File
	for _, o := range all {
		if path, ok := strings.CutPrefix(o.Name, migration+"/"); ok {
			list = append(list, model.File{Path: path, Size: int64(o.Size), Kept: true})
		}
	}
	return list, err
}

// OpenKept opens a file that is kept; fs.ErrNotExist if it is not.
func (e *Engine) OpenKept(ctx context.Context, migration, path string) (io.ReadCloser, int64, error) {
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

func (e *Engine) forgetKept(ctx context.Context, migration string) error {
	list, err := e.Kept(ctx, migration)
	for _, f := range list {
		err = errors.Join(err, e.bus.kept.Delete(ctx, migration+"/"+f.Path))
	}
	return err
}
