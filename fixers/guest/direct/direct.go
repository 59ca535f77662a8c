// Package direct reaches a guest's files through the kernel it runs on: loop
// devices at the partitions' offsets, mounted where nobody else sees them, names
// resolved by the kernel inside the guest's root. It takes milliseconds where the
// reference engine starts a virtual machine. It needs root, and shows a stranger's
// file system to this kernel; an operator may forbid it.
//
// Two processes do the work, and end with the one that opened the guest. The mounter,
// in this package, has the disks, makes the devices, and mounts and checks what is on
// them. The other, in package files, has the guest's files and nothing else. Neither
// may take for ever: one that crashes or does not answer is ended, and with them goes
// all that was mounted and attached.
//
// Supported, where the kernel has them: ext2, ext3, ext4, XFS, btrfs on one device and
// FAT, on partitions, whole disks, logical volumes and md's arrays that are linear,
// RAID 0 or RAID 1, and on what LUKS has encrypted. A volume that lies in several
// pieces, in several copies, or encrypted takes the kernel's device-mapper, all else
// its loop devices.
// For what the kernel lacks Mount's error wraps ErrUnsupported, and the caller takes
// the reference engine.
package direct

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/call"
	"hyper2kvm/fixers/guest/direct/files"
	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

// ErrUnsupported is a file system that this engine or this kernel cannot
// mount: another engine may.
var ErrUnsupported = errors.New("not supported by the direct engine")

// ErrBroken is an engine whose processes crashed or did not answer. All that it had
// mounted and attached is gone, and what it was writing may be incomplete.
var ErrBroken = errors.New("the direct engine broke down")

// shown is an opened guest. It implements guest.Guest through the two processes.
type shown struct {
	files.Client

	mounter  *proc.Server
	calls    *call.Caller
	disks    []loop.File
	limits   limits
	topology guest.Topology
	on       map[string]string // devices that are mounted, by the numbers of their mounts
	closed   bool
	broken   error

	cut  atomic.Pointer[error] // why the guest is not wanted any more
	keep func() bool           // from now on it is, whatever becomes of the context
}

// limits are how long calls may take. Those that mount, write through or grow read
// and write what a source far away has, a replayed journal or a file system's tables,
// of hundreds of MiB at most; a call on files moves a piece of one, or lists a folder
// of guest.MaxEntries; open reads least, and may make keys of passphrases. What hangs
// is given up after end.
type limits struct{ open, mount, file, end time.Duration }

var usual = limits{open: 20 * time.Minute, mount: 20 * time.Minute, file: 5 * time.Minute, end: 30 * time.Second}

// Open reads what lies on a guest's disks, raw files in the machine's order:
// in production, what the overlays' daemon exports through FUSE. The files are
// opened for writing; nothing is written before Mount, which may replay a
// journal. What is encrypted is opened as far as there are keys for it; what was found
// out about these is kept with them. When ctx ends, so does the guest: a call that is
// under way, or comes then, returns soon with ctx's cause, and nothing stays mounted or
// attached.
func Open(ctx context.Context, disks []string, keys *guest.Keyring, log *slog.Logger) (_ guest.Guest, err error) {
	var opened []*os.File
	defer func() {
		for _, f := range opened { // the mounter has them
			err = errors.Join(err, f.Close())
		}
	}()
	for i, path := range disks {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		opened = append(opened, f)
	}
	g, err := start(ctx, opened, keys != nil, log)
	if err != nil {
		return nil, err
	}
	g.keep = context.AfterFunc(ctx, func() { g.interrupt(context.Cause(ctx)) })
	seen, err := ask[openReply](ctx, g, "open", openArgs{len(disks), keys}, g.limits.open)
	if err != nil {
		return nil, errors.Join(err, g.end())
	}
	if keys != nil && seen.Keys != nil {
		*keys = *seen.Keys
	}
	g.topology = seen.Topology
	return g, nil
}

// start starts the mounter; it starts the other process itself.
func start(ctx context.Context, disks []*os.File, locked bool, log *slog.Logger) (*shown, error) {
	program, err := program()
	if err != nil {
		return nil, err
	}
	known, err := filesOf(disks)
	if err != nil {
		return nil, err
	}
	calls, mounterEnd, err := call.Pair()
	if err != nil {
		return nil, err
	}
	defer mounterEnd.Close()
	names, filesEnd, err := call.Pair()
	if err != nil {
		return nil, errors.Join(err, calls.Close())
	}
	defer filesEnd.Close()
	window, shared, err := files.NewWindow()
	if err != nil {
		return nil, errors.Join(err, calls.Close(), names.Close())
	}
	defer shared.Close()
	g := &shown{disks: known, limits: usual, on: map[string]string{}, calls: call.NewCaller(calls, log, ErrUnsupported)}
	g.Client = files.Client{Caller: call.NewCaller(names, log), Window: window, Limit: usual.file, Gone: g.breakDown}
	if g.mounter, err = proc.Start(ctx, mounterService(program, locked, slices.Concat([]*os.File{mounterEnd, filesEnd, shared}, disks))); err != nil {
		return nil, errors.Join(err, g.hangUp(), window.Close())
	}
	return g, nil
}

func ask[R any](ctx context.Context, g *shown, op string, args any, limit time.Duration) (R, error) {
	result, err := call.Do[R](ctx, g.calls, op, args, limit)
	if errors.Is(err, call.ErrGone) {
		err = g.breakDown(err)
	}
	return result, err
}

// Topology is what lies on the disks.
func (g *shown) Topology() guest.Topology { return g.topology }

// Mount mounts a file system. When it cannot be done here but may be done
// elsewhere, the error wraps ErrUnsupported.
func (g *shown) Mount(device, at string) error { return g.mount(mountArgs{Device: device, At: at}) }

// MountSubvolume mounts a subvolume of a btrfs, on the same device as its others.
func (g *shown) MountSubvolume(device string, id uint64, at string) error {
	return g.mount(mountArgs{Device: device, At: at, ByID: true, Subvolume: id})
}

func (g *shown) mount(args mountArgs) error {
	seen, err := ask[mountReply](context.Background(), g, "mount", args, g.limits.mount)
	if err != nil {
		return err
	}
	g.topology = seen.Topology
	g.on[seen.ID] = args.Device
	if len(g.on) == 1 {
		return g.Enter(seen.Root)
	}
	return nil
}

// Space tells of a file system what is free on it. The other process knows it by the
// number of the mount.
func (g *shown) Space(name string) (guest.Space, error) {
	s, err := g.Client.Space(name)
	if err != nil {
		return s, err
	}
	on, ok := g.on[s.Filesystem]
	if !ok {
		return guest.Space{}, files.Failed("statfs", name, fmt.Errorf("mount %s is none of ours", s.Filesystem))
	}
	s.Filesystem = on
	return s, nil
}

// Err is ErrBroken once a process has crashed, or did not answer, and the cause of the
// context that the guest was opened with when that has ended.
func (g *shown) Err() error { return g.broken }

// UnmountAll writes everything through and unmounts.
func (g *shown) UnmountAll() error {
	if len(g.on) == 0 {
		return nil
	}
	clear(g.on)
	if err := g.Leave(); err != nil {
		return err
	}
	_, err := ask[call.None](context.Background(), g, "unmount", call.None{}, g.limits.mount)
	return err
}

// Check runs a file system's checker of this host on a loop device.
func (g *shown) Check(ctx context.Context, device string) (guest.Health, error) {
	seen, err := ask[checkReply](ctx, g, "check", device, guest.CheckLimit+g.limits.mount)
	if err == nil {
		g.topology = seen.Topology
	}
	return seen.Health, err
}

// Grow changes the partition table through the disk's file, and has this host's
// resize2fs, or the kernel's XFS, grow what is on the partition.
func (g *shown) Grow(ctx context.Context, r guest.Resize) error {
	topology, err := ask[guest.Topology](ctx, g, "grow", r, guest.CheckLimit+g.limits.mount)
	if err == nil {
		g.topology = topology
	}
	return err
}

// Close writes everything through to the disks and lets go of them: it
// returns when the kernel has detached every device. Its error means that
// writes may be missing. Closing twice is harmless.
func (g *shown) Close() error {
	switch {
	case g.broken != nil && g.cut.Load() != nil:
		return g.broken
	case g.broken != nil:
		return ErrBroken // why was said before
	case g.closed:
		return nil
	}
	err := g.UnmountAll()
	if err == nil {
		_, err = ask[call.None](context.Background(), g, "close", call.None{}, g.limits.mount)
	}
	return errors.Join(err, g.end())
}
