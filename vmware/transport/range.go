package transport

import (
	"context"
	"fmt"

	"hyper2kvm/pipeline/disk"
)

// within refuses n bytes from off on that are not of a disk of size bytes.
func within(off, n, size int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("%d bytes at %d are outside of a disk of %d", n, off, size)
	}
	return nil
}

// allocated is what of n bytes from off on may be data by what the server told of the
// disk: all of it where it told nothing.
func (d Disk) allocated(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	if d.Allocated == nil || n == 0 {
		return []disk.Allocation{{Offset: off, Length: n}}, nil
	}
	return d.Allocated(ctx, off, n)
}
