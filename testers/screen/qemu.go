package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hyper2kvm/pipeline/disk/qmp"
)

// QEMU is a machine's display and keyboard over QEMU's monitor.
type QEMU struct {
	*qmp.Client
	Dir string // private, for the files that QEMU writes
}

// maxScreen bounds a screenshot in bytes.
const maxScreen = 16 << 20

// Picture takes a screenshot. A display that has nothing to show yet gives none.
func (q QEMU) Picture(ctx context.Context) ([]byte, error) {
	path := filepath.Join(q.Dir, "screen.png")
	err := q.Execute(ctx, "screendump", map[string]any{"filename": path, "format": "png"}, nil)
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readFile(path, maxScreen)
}

// Memory saves a part of the guest's memory and reads it.
func (q QEMU) Memory(ctx context.Context, address, size int64) ([]byte, error) {
	path := filepath.Join(q.Dir, "memory")
	if err := q.Execute(ctx, "pmemsave", map[string]any{"val": address, "size": size, "filename": path}, nil); err != nil {
		return nil, err
	}
	return readFile(path, size)
}

// Press sends keys as an old PC numbers them, which is what Linux calls them.
func (q QEMU) Press(ctx context.Context, keys []int) error {
	var all []map[string]any
	for _, k := range keys {
		all = append(all, map[string]any{"type": "number", "data": k})
	}
	return q.Execute(ctx, "send-key", map[string]any{"keys": all}, nil)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}
