package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/libguestfs"
	"hyper2kvm/fixers/inspect"
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

// probeAhead begins to find out whether the direct engine works here, beside what comes
// before INSPECT, which wants to know; nobody does where the engine was chosen already, or
// libguestfs asked for.
func (r *Run) probeAhead(ctx context.Context) {
	if r.probed != nil || r.Engine.Name != "" || r.Options.Engine == Libguestfs {
		return
	}
	r.probed = sync.OnceValue(func() error { return r.noDirect(ctx) })
	go r.probed()
}

// openGuest opens the overlays' guest with the engine that was chosen first. One that
// nobody asked for and that does not start there is not insisted on.
func (r *Run) openGuest(ctx context.Context) error {
	if r.guest != nil {
		return nil
	}
	chosen := r.Engine.Name == ""
	var broken error
	if chosen {
		r.probeAhead(ctx)
		if r.probed != nil {
			broken = r.probed()
		}
		engine, err := chooseEngine(r.Options.Engine, r.Accel, broken, r.packaged)
		if err != nil {
			return err
		}
		r.Engine = engine
	}
	g, err := r.engine(ctx, r.Engine.Name, r.storage, r.Accel, r.log)
	if chosen && r.Options.Engine != Libguestfs && broken == nil && errors.Is(err, libguestfs.ErrLaunch) {
		r.Engine = Engine{Direct, fmt.Sprintf("this kernel can mount the guest's file systems; libguestfs was tried: %v", err)}
		r.log.Warn("another engine is taken", "migration", r.Name, "engine", Direct, "why", err)
		g, err = r.engine(ctx, Direct, r.storage, r.Accel, r.log)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrEngine, r.Engine.Name, err)
	}
	r.guest = g
	return nil
}

// withKeys opens the guest on a storage's disks, and what is encrypted there with keys.
func withKeys(keys *guest.Keyring) engineFunc {
	return func(ctx context.Context, name string, s *disk.Storage, choice accel.Choice, log *slog.Logger) (guest.Guest, error) {
		return openEngine(ctx, name, s, choice, keys, log)
	}
}

func openEngine(ctx context.Context, name string, s *disk.Storage, choice accel.Choice, keys *guest.Keyring, log *slog.Logger) (guest.Guest, error) {
	if name == Direct {
		var files []string
		for i := range s.Disks() {
			file, err := s.Raw(ctx, i)
			if err != nil {
				return nil, err
			}
			files = append(files, file)
		}
		return direct.Open(ctx, files, keys, log)
	}
	var exports []libguestfs.Export
	for i := range s.Disks() {
		e, err := s.Export(ctx, i)
		if err != nil {
			return nil, err
		}
		exports = append(exports, libguestfs.Export{Socket: e.Socket, Name: e.Name})
	}
	return libguestfs.Open(ctx, exports, libguestfs.Options{TCG: choice.Name == accel.TCG, Keys: keys}, log)
}

// closedToDirect is why the direct engine shows less of a guest than the guest
// itself sees; "" when it shows all. It is found out by mounting each file system,
// alone: what this kernel has, and what this guest needs, are seen in no other way.
func closedToDirect(g guest.Guest) (why string, err error) {
	t := g.Topology()
	for _, v := range t.Volumes {
		if v.Unsupported != "" {
			return v.Name + ": " + v.Unsupported, nil
		}
	}
	for _, f := range t.Filesystems {
		if !wanted(t, f) {
			continue
		}
		mounted := g.Mount(f.Device, "/")
		if err := g.UnmountAll(); err != nil {
			return "", err
		}
		if errors.Is(mounted, direct.ErrUnsupported) {
			return mounted.Error(), nil
		}
	}
	return "", nil
}

// wanted tells whether libguestfs shows what the direct engine may not: a boot
// loader may need a change on the EFI system partition, other FAT holds data. File
// systems that neither may know decide nothing here.
func wanted(t guest.Topology, f guest.Filesystem) bool {
	if f.Type == "vfat" {
		return (inspect.Facts{Topology: t}).IsESP(f.Device)
	}
	return direct.Knows(f.Type)
}

// reconsider takes libguestfs instead of the direct engine, before time is spent
// on a guest that the latter cannot show whole.
func (r *Run) reconsider(ctx context.Context) (err error) {
	if r.Engine.Name != Direct {
		return nil
	}
	r.closed, err = closedToDirect(r.guest)
	if err != nil || r.closed == "" || !r.mayFallBack() {
		return err
	}
	return r.fallBack(ctx, "the direct engine cannot show this guest whole: "+r.closed)
}

// growsApart is a volume that will lie in several pieces when it has grown; "" for
// none.
func (r *Run) growsApart(f *inspect.Facts) string {
	for i, d := range r.Machine.Disks {
		e := r.enlarged(f, i)
		if last, ok := f.Topology.Last(diskName(i), e); ok && d.Was > 0 {
			e.From, e.Checked = d.Was, []guest.Health{{Device: last.Device, State: guest.Clean}}
			if s := f.Topology.PlanResize(diskName(i), e); s.Volume != nil && s.Volume.Apart {
				return s.Volume.Name
			}
		}
	}
	return ""
}

// reconsiderGrowth takes libguestfs instead of the direct engine where what is to grow
// could not be shown by that any more, and reads the facts again.
func (r *Run) reconsiderGrowth(ctx context.Context, f inspect.Facts) (inspect.Facts, error) {
	apart := r.growsApart(&f)
	if r.Engine.Name != Direct || apart == "" {
		return f, nil
	}
	lacks := r.noMapper()
	if lacks == nil {
		return f, nil
	}
	why := fmt.Sprintf("%s will lie in several pieces when it has grown, and device-mapper does not work here: %v", apart, lacks)
	if !r.mayFallBack() {
		return f, fmt.Errorf("%w: the direct engine cannot grow this guest: %s; leave the choice of the engine to a build with libguestfs (make build), or name a volume at the group's end, as in --grow 0=SIZE:VOLUME", ErrEngine, why)
	}
	if err := r.fallBack(ctx, "the direct engine cannot grow this guest: "+why); err != nil {
		return f, err
	}
	return r.look(ctx, r.checkBefore(ctx))
}

// mayFallBack tells whether there is another engine, and the operator lets us
// choose.
func (r *Run) mayFallBack() bool {
	return r.Engine.Name == Direct && r.Options.Engine != Direct && r.packaged
}

// mayBeRead tells whether libguestfs may read what the direct engine could not. Where
// that could mount all that there is and found no system, there is none to be found.
func (r *Run) mayBeRead(err error) bool {
	unread := errors.Is(err, direct.ErrUnsupported) || errors.Is(err, inspect.ErrMount) || errors.Is(err, inspect.ErrNoOS) && r.holdsMore()
	return unread && r.mayFallBack()
}

// holdsMore tells whether there is something on the disks that the direct engine does
// not know or could not open. Both engines read tables and signatures alike.
func (r *Run) holdsMore() bool {
	all := r.guest.Topology().Filesystems
	return r.closed != "" || slices.ContainsFunc(all, func(f guest.Filesystem) bool {
		return !direct.Knows(f.Type) && f.Type != "swap"
	})
}

// fallBack opens the guest with libguestfs instead.
func (r *Run) fallBack(ctx context.Context, why string) error {
	r.log.Warn("another engine is taken", "migration", r.Name, "engine", Libguestfs, "why", why)
	for _, f := range r.guest.Topology().Filesystems {
		if f.Replayed {
			r.replayed = append(r.replayed, f.Device)
		}
	}
	if err := r.closeGuest(); err != nil {
		return err
	}
	r.Engine = Engine{Libguestfs, why}
	return r.openGuest(ctx)
}

// recalled are file systems with what another engine has done to them.
func (r *Run) recalled(list []guest.Filesystem) []guest.Filesystem {
	list = slices.Clone(list)
	for i := range list {
		list[i].Replayed = list[i].Replayed || slices.Contains(r.replayed, list[i].Device)
	}
	return list
}

// hint adds to an error of INSPECT what another engine would have done for it.
func (r *Run) hint(err error) error {
	if r.Engine.Name != Direct || r.closed == "" {
		return err
	}
	try := "leave the choice of the engine to the program"
	if !r.packaged {
		try = "use a build with libguestfs (make build)"
	}
	return fmt.Errorf("%w; the direct engine cannot show this guest whole: %s; %s", err, r.closed, try)
}

// Engines tells of each engine whether it works here.
func Engines(ctx context.Context) []Engine {
	list := []Engine{{Direct, "works"}, {Libguestfs, "in this build"}}
	if err := direct.Probe(ctx); err != nil {
		list[0].Reason = "does not work here: " + err.Error()
	} else if lacks := direct.Lacks(); len(lacks) > 0 {
		list[0].Reason += "; guests that need what this kernel lacks take libguestfs: " + strings.Join(lacks, ", ")
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
