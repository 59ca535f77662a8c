package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// onItsWay is what a kernel image is called on the ESP as long as nothing starts it.
const onItsWay = images + "/update.part"

// margin is how much room the ESP keeps besides, in bytes.
const margin = 4 << 20

// Install reads an archive and puts its version where it is started next, on trial. Done is
// told how many bytes more were written. What runs is not touched: if that ends at any
// moment, in any way, the version that runs is what starts, or the new one, whole.
func (m *Machine) Install(ctx context.Context, from io.Reader, done func(int64)) (version string, err error) {
	release, err := m.alone(ctx, m.turn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	trust, err := m.trust()
	if err != nil {
		return "", err
	}
	h, err := m.home(ctx)
	if err != nil {
		return "", err
	}
	a, err := openArchive(from, trust)
	if err != nil {
		return "", err
	}
	if err := m.later(a.version); err != nil {
		return "", err
	}
	return a.version, m.onESP(ctx, h.esp.Node, false, func(e esp) error { return m.install(ctx, a, h, e, done) })
}

// later refuses what systemd-boot would not start: it takes the latest.
func (m *Machine) later(version string) error {
	runs, err := m.Version()
	if err != nil {
		return err
	}
	switch c := Compare(version, runs); {
	case version == runs:
		return fmt.Errorf("%w: %s runs already", ErrVersion, version)
	case c <= 0:
		return fmt.Errorf("%w: it is %s, and %s runs; to go back, choose the version before in the boot menu, or write its image to the disk", ErrVersion, version, runs)
	}
	return nil
}

// install is the order in which the disk is written. Nothing leads into the spare slot
// while it is written, and the name of the kernel image is what ends it.
func (m *Machine) install(ctx context.Context, a *archive, h home, e esp, done func(int64)) error {
	if err := m.takeKernel(a, e); err != nil {
		return err
	}
	if err := m.vacate(ctx, h, e); err != nil {
		return err
	}
	for n, p := range []partition{h.spare.root, h.spare.verity} {
		part, err := a.member(n+1, mostPartition)
		if err != nil {
			return err
		}
		if err := errors.Join(part.into(ctx, p, done), m.did("fill "+p.Node)); err != nil {
			return err
		}
	}
	if err := a.end(); err != nil {
		return err
	}
	if err := m.name(ctx, h, h.spare.of(a)); err != nil {
		return err
	}
	if err := e.move(onItsWay, image{version: a.version, counted: true, left: tries}.name()); err != nil {
		return err
	}
	return e.menu()
}

// takeKernel puts the kernel image onto the ESP, where nothing starts it, and checks that
// it leads to the root that comes with it.
func (m *Machine) takeKernel(a *archive, e esp) error {
	part, err := a.member(0, mostKernel)
	if err != nil {
		return err
	}
	if err := e.remove(onItsWay); err != nil {
		return err
	}
	if err := e.room(part.size); err != nil {
		return err
	}
	path := e.path(onItsWay)
	if err := part.onto(path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	k, err := openKernel(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if err := k.close(); err != nil {
		return err
	}
	if root, verity := Halves(k.rootHash); k.version != a.version || root != a.root || verity != a.verity {
		return fmt.Errorf("%w: its kernel image is not that of its root", ErrArchive)
	}
	return m.did("take the kernel image")
}

// room checks that there is room for a kernel image, and for what BIOS has of it.
func (e esp) room(size int64) error {
	free, err := e.free()
	if need := 2*size + margin; err == nil && free < need {
		return fmt.Errorf("%w: the partition that it starts from has %d MiB free, and this update needs %d there: write the image to the disk instead", ErrCannot, free>>20, need>>20)
	}
	return err
}

// vacate takes away what leads into the spare slot, and then the slot's names.
func (m *Machine) vacate(ctx context.Context, h home, e esp) error {
	runs, err := m.Version()
	if err != nil {
		return err
	}
	list, err := e.images()
	if err != nil {
		return err
	}
	switch i, there := find(list, runs); {
	case !there:
		return fmt.Errorf("%w: the kernel image of %s, which runs, is not on its disk: write the image to the disk", ErrCannot, runs)
	case i.counted:
		return fmt.Errorf("%w: %s, which runs, has not been found healthy yet: wait until it is, or go back to the version before in the boot menu", ErrCannot, runs)
	}
	for _, i := range list {
		if i.version != runs {
			if err := e.remove(i.name()); err != nil {
				return err
			}
		}
	}
	if err := e.menu(); err != nil {
		return err
	}
	return m.name(ctx, h, h.spare.empty())
}
