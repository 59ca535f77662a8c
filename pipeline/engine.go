package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/libguestfs"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
)

// Engines that reach a guest's files.
const (
	Auto       = "auto"
	Direct     = "direct"
	Libguestfs = "libguestfs"
)

// ErrEngine is an engine that cannot work here.
var ErrEngine = errors.New("cannot reach the guest's files")

// chooseEngine picks the engine and says why. Where hardware virtualization
// works, libguestfs keeps a hostile file system away from this kernel; where it
// does not, its emulated machine takes minutes and the direct engine seconds.
func chooseEngine(asked string, choice accel.Choice, direct error, packaged bool) (Engine, error) {
	switch {
	case asked == Direct && direct != nil:
		return Engine{}, fmt.Errorf("%w: the direct engine does not work here: %w", ErrEngine, direct)
	case asked == Libguestfs && !packaged:
		return Engine{}, fmt.Errorf("%w: this build has no libguestfs: build it with make", ErrEngine)
	case asked == Direct || asked == Libguestfs:
		return Engine{asked, "asked for"}, nil
	case choice.Name == accel.KVM && packaged:
		return Engine{Libguestfs, "KVM works, so libguestfs is fast, and keeps the guest's file systems away from this kernel"}, nil
	case direct == nil && !packaged:
		return Engine{Direct, "this kernel can mount the guest's file systems, and this build has no libguestfs"}, nil
	case direct == nil:
		return Engine{Direct, "this kernel can mount the guest's file systems; libguestfs would have to emulate a machine: " + choice.Reason}, nil
	case packaged:
		return Engine{Libguestfs, fmt.Sprintf("emulated, because the direct engine does not work here: %v", direct)}, nil
	default:
		return Engine{}, fmt.Errorf("%w: this build has no libguestfs, and the direct engine does not work here: %w", ErrEngine, direct)
	}
}

// openGuest opens the overlays' guest with the engine that was chosen first.
func (r *Run) openGuest(ctx context.Context) error {
	if r.guest != nil {
		return nil
	}
	if r.Engine.Name == "" {
		engine, err := chooseEngine(r.Options.Engine, r.Accel, direct.Probe(ctx), libguestfs.Available)
		if err != nil {
			return err
		}
		r.Engine = engine
	}
	g, err := r.engine(ctx, r.Engine.Name, r.storage, r.Accel, r.log)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEngine, r.Engine.Name, err)
	}
	r.guest = g
	return nil
}

// openEngine opens the guest on a storage's disks.
func openEngine(ctx context.Context, name string, s *disk.Storage, choice accel.Choice, log *slog.Logger) (guest.Guest, error) {
	if name == Direct {
		var files []string
		for i := range s.Disks() {
			file, err := s.Raw(ctx, i)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		return direct.Open(ctx, files, log)
	}
	var exports []libguestfs.Export
	for i := range s.Disks() {
		e, err := s.Export(ctx, i)
		if err != nil {
			return nil, err
		}
		exports = append(exports, libguestfs.Export{Socket: e.Socket, Name: e.Name})
	}
	return libguestfs.Open(ctx, exports, libguestfs.Options{TCG: choice.Name == accel.TCG}, log)
}

// fallBack opens the guest with libguestfs after the direct engine met what it
// cannot read, and tells whether that is possible.
func (r *Run) fallBack(ctx context.Context, why error) (bool, error) {
	if r.Engine.Name != Direct || r.Options.Engine == Direct || !libguestfs.Available {
		return false, nil
	}
	if len(r.guest.Topology().Filesystems) == 0 {
		return false, nil // both engines read partition tables and signatures alike
	}
	r.log.Warn("the direct engine cannot read this guest", "migration", r.Name, "err", why)
	if err := r.closeGuest(); err != nil {
		return false, err
	}
	r.Engine = Engine{Libguestfs, fmt.Sprintf("the direct engine could not read this guest: %v", why)}
	return true, r.openGuest(ctx)
}

// Engines tells of each engine whether it works here.
func Engines(ctx context.Context) []Engine {
	list := []Engine{{Direct, "works"}, {Libguestfs, "in this build"}}
	if err := direct.Probe(ctx); err != nil {
		list[0].Reason = "does not work here: " + err.Error()
	}
	if !libguestfs.Available {
		list[1].Reason = "not in this build: build it with make"
	}
	return list
}

// closeGuest writes the guest's files through to the overlays.
func (r *Run) closeGuest() error {
	if r.guest == nil {
		return nil
	}
	g := r.guest
	r.guest = nil
	if err := g.Close(); err != nil {
		return fmt.Errorf("close the guest's file systems: %w", err)
	}
	return nil
}
