package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/durable"
)

func (a *app) download() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "download MIGRATION [FILE...]", Short: "Download what a migration has made, or list it",
		Long: `Download files of a migration into a folder, under the paths that they have there;
without a FILE they are listed. A download that was interrupted goes on where it was
when the same command is given again. The manifest beside a disk has its digests.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%w: download takes one MIGRATION: see hyper2kvm download --help", errUsage)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			id, err := find(c.Context(), conn, args[0])
			if err != nil {
				return err
			}
			files, err := conn.Files(c.Context(), id)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.files(files)
			}
			return a.downloadAll(c.Context(), conn, id, files, args[1:], to)
		},
	}
	c.Flags().StringVar(&to, "to", ".", "folder to put them into")
	return c
}

func (a *app) files(list []model.File) error {
	rows := [][]string{{"FILE", "SIZE"}}
	for _, f := range list {
		rows = append(rows, []string{f.Path, size(f.Size)})
	}
	return a.table(rows)
}

func (a *app) downloadAll(ctx context.Context, c *client.Conn, id string, files []model.File, names []string, to string) error {
	for _, name := range names {
		var known *model.File
		for i := range files {
			if files[i].Path == name {
				known = &files[i]
			}
		}
		if known == nil || !filepath.IsLocal(name) {
			return fmt.Errorf("%w: %s has no file %s: see hyper2kvm download %s", errUsage, id, name, id)
		}
		f := afar{known.Size, func(ctx context.Context, at int64) (io.ReadCloser, error) { return c.Download(ctx, id, name, at) }}
		path := filepath.Join(to, name)
		if err := f.fetch(ctx, path, path+partly); err != nil {
			return fmt.Errorf("download %s: %w", name, err)
		}
	}
	return nil
}

// part is behind the name of a file that is not whole yet.
const partly = ".part"

// tries is how often in a row a download may be cut off without a byte more.
const tries = 5

// afar is a file of an appliance's, which is read from any of its bytes on.
type afar struct {
	size int64
	from func(ctx context.Context, at int64) (io.ReadCloser, error)
}

// fetch downloads a file under a name of its own until it is whole, and goes on with what
// is there of it. Nothing that is there under its name is overwritten.
func (f afar) fetch(ctx context.Context, path, part string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already: remove it, or choose another name", path), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	to, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = f.fill(ctx, to)
	if err := errors.Join(err, to.Sync(), to.Close()); err != nil {
		return err
	}
	return durable.Rename(part, path)
}

// fill goes on where a file ends until it has its size.
func (f afar) fill(ctx context.Context, to *os.File) error {
	at, err := to.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for left := tries; at < f.size; left-- {
		n, err := f.more(ctx, at, to)
		if at += n; n > 0 {
			left = tries
		}
		if _, refused := errors.AsType[*client.Refusal](err); err != nil && (refused || left == 0 || ctx.Err() != nil) {
			return err
		}
	}
	if at > f.size {
		return fmt.Errorf("%s has %d bytes, and the appliance's %d: remove it", to.Name(), at, f.size)
	}
	return nil
}

func (f afar) more(ctx context.Context, at int64, to io.Writer) (int64, error) {
	r, err := f.from(ctx, at)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(to, io.LimitReader(r, f.size-at))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return n, errors.Join(err, r.Close())
}
