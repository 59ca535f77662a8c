package source

import (
	"context"
	"fmt"
	"os"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
)

// Devices is the record of a machine of which only its disks are known: block devices
// that hold their bytes as they are, whatever they begin with.
func Devices(ctx context.Context, name string, paths []string) (machine.Machine, error) {
	m := guess(name)
	m.Name, m.Disks = name, nil
	for i, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return m, fmt.Errorf("%w: %w", ErrBadInput, err)
		}
		if info.Mode()&os.ModeDevice == 0 {
			return m, fmt.Errorf("%w: %s is no block device", ErrBadInput, path)
		}
		c, err := disk.ReadChain(ctx, path, disk.Raw, nil)
		if err != nil {
			return m, fmt.Errorf("%w: %w", ErrBadInput, err)
		}
		m.Disks = append(m.Disks, machine.Disk{Path: path, Format: disk.Raw, Size: c.Size, Kind: c.Kind(), Serial: machine.Serial(name, i)})
	}
	return m, nil
}
