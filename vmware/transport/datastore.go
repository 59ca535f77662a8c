package transport

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"hyper2kvm/pipeline/disk"
)

// fileReader is a file on a datastore.
type fileReader = disk.File

// datastorePath is a file's place as vSphere writes it: [datastore1] web01/web01.vmdk.
type datastorePath struct {
	datastore string
	file      string // with slashes between folders
}

// Source: vSphere Web Services API, "Datastore Path".
var bracketed = regexp.MustCompile(`^\[([^\]]+)\] ?(.+)$`)

func parsePath(text string) (datastorePath, error) {
	m := bracketed.FindStringSubmatch(text)
	if m == nil || strings.ContainsRune(text, 0) {
		return datastorePath{}, fmt.Errorf("%w: %q is no path on a datastore", ErrUnusable, text)
	}
	return datastorePath{m[1], strings.TrimPrefix(m[2], "/")}, nil
}

// String is the path as vSphere writes it.
func (p datastorePath) String() string { return "[" + p.datastore + "] " + p.file }

// overFiles reads a disk from the files of its chain, which open opens by their
// datastore paths; it closes them with the disk. A disk of another size than the
// inventory's is refused, as are those that pipeline/disk refuses.
func overFiles(ctx context.Context, d Disk, open func(ctx context.Context, datastorePath string) (fileReader, error)) (disk.Remote, error) {
	if len(d.Files) == 0 {
		return nil, fmt.Errorf("%w: it is not known in which files the disk is", ErrUnusable)
	}
	r, err := disk.Elsewhere(ctx, d.Files, open)
	if err != nil {
		return nil, unusable(ctx, err)
	}
	if d.Size > 0 && r.Size() != d.Size {
		err := fmt.Errorf("%w: its files hold a disk of %d bytes, and the server says that it has %d", ErrUnusable, r.Size(), d.Size)
		return nil, errors.Join(err, r.Close())
	}
	return skipping(r, d.Allocated), nil
}

// unusable marks what other transports may read all the same.
func unusable(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, ErrUnusable) || errors.Is(err, ErrGone) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnusable, err)
}
