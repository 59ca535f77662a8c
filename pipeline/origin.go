package pipeline

import (
	"context"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
)

// Origin is where a guest comes from: files that this machine reaches, or a hypervisor
// that has it. A run calls it from one goroutine at a time. What it changes at a
// hypervisor it notes before, so that a later process can take it back.
type Origin interface {
	// Fetch reads the machine's record and sees to it that its disks do not change
	// from now on. It may be called again when it was interrupted, or after Release.
	Fetch(ctx context.Context) (machine.Machine, error)
	// Open opens the disks of a machine that was fetched, for reading alone. The run
	// closes them before Release.
	Open(ctx context.Context, m machine.Machine) ([]*disk.Source, []Identity, error)
	// Doubt has disks that are opened from now on read whole, whatever is told of blocks
	// that were never written: to find out whether that was true.
	Doubt()
	// Same is ErrSourceChanged if the disks are no more those that were opened first, and
	// ErrUnsure if they look as they did and may have been others meanwhile.
	Same(ctx context.Context, was []Identity) error
	// Concerns are what stands against the migration that the machine's record does
	// not say.
	Concerns() []fixer.Concern
	// Carried tells how the disks' bytes came here; nil for those that were here.
	Carried() []Carried
	// Release leaves the source as the run's end wants it. With changes its disks may
	// change from now on: what was made of them is worth nothing unless it is proved.
	Release(ctx context.Context, end End) (changes bool, err error)
}

// End is how a run ended.
type End struct {
	// Finished is a run that came through all its stages, and Converted one that made
	// the target's disks; Proved is one whose result boots.
	Finished, Converted, Proved bool
	// Interrupted is a run that was told to end, and is to be gone on with.
	Interrupted bool
	// Err is what ended it before.
	Err error
}

// Carried is how the bytes of one disk came.
type Carried struct {
	Disk int      `json:"disk"`
	By   string   `json:"by"`            // the transport
	Not  []string `json:"not,omitempty"` // why the transports before it were not taken
	Read int64    `json:"read"`          // bytes that this run's transports took: of the disk, or of a compressed export
	Size int64    `json:"size"`          // bytes of the disk
}
