package pipeline

import (
	"context"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
)

// attached is the origin of a guest that is on whole block devices of this machine.
type attached struct {
	files
	name  string
	paths []string
}

// Devices is the origin of a guest on block devices, whose bytes are its disks' as they
// are. The paths have to stay the same for as long as the migration lasts.
func Devices(name string, paths []string) Origin { return attached{name: name, paths: paths} }

// Fetch implements Origin.
func (a attached) Fetch(ctx context.Context) (machine.Machine, error) {
	return source.Devices(ctx, a.name, a.paths)
}
