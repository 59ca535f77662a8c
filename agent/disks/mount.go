package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// system is how a file system is mounted.
type system struct {
	known   bool
	options string
	// unwritten are the options with which one is shown whose journal cannot be replayed
	// on a disk that is not written to; "" if there are none.
	unwritten string
}

// systems are those that storages may be on. errors=remount-ro: a superblock may ask
// that the kernel panics at errors. nouuid: clones have equal UUIDs. NTFS is shown by
// a program, as guests' is.
//
// Source: ext4(5), xfs(5), btrfs(5), mount(8).
var systems = map[string]system{
	"ext2":  {true, "errors=remount-ro", ""},
	"ext3":  {true, "errors=remount-ro", "errors=remount-ro,noload"},
	"ext4":  {true, "errors=remount-ro", "errors=remount-ro,noload"},
	"xfs":   {true, "nouuid", "nouuid,norecovery"},
	"btrfs": {true, "skip_balance", "rescue=nologreplay"},
	"vfat":  {true, "errors=remount-ro,utf8=1,fmask=0133,dmask=0022", ""},
	"exfat": {true, "errors=remount-ro,fmask=0133,dmask=0022", ""},
	ntfs:    {true, "", ""},
}

const ntfs = "ntfs"

// mountable tells why a file system cannot be mounted here; nil if it can. The kernel
// loads what it needs for it.
func mountable(fstype string) error {
	if fstype == ntfs {
		if _, err := proc.Look(guest.NTFSProgram); err != nil {
			return fmt.Errorf("%w: %w", ErrMount, err)
		}
		fstype = "fuseblk"
	}
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%w: the kernel knows no %s: %w", ErrMount, fstype, err)
	}
	return unix.Close(fd)
}

// mount is a mounted file system.
type mount struct {
	at    string
	reads bool         // it is read-only
	shows *proc.Server // the program that shows it; nil for the kernel
}

const uncleanNote = "its file system was not unmounted when it was last used, and nothing is written to it to mend that: what was written last may be missing"

// mount mounts the file system of a choice. The note is what there is to know of it.
func (k *Keeper) mount(ctx context.Context, c choice, d disk) (_ *mount, note string, err error) {
	node, p, err := k.partOf(d, c.Use.Partition)
	if err != nil {
		return nil, "", err
	}
	m := &mount{at: filepath.Join(k.Run, c.Use.Name), reads: c.Use.Use == model.DiskUseUseSource}
	if err := os.MkdirAll(m.at, 0o755); err != nil {
		return nil, "", err
	}
	if m.reads {
		if err := k.protect(d, true); err != nil {
			return nil, "", errors.Join(err, os.Remove(m.at))
		}
	}
	if p.FileSystem == ntfs {
		err = k.showNTFS(ctx, m, node)
	} else {
		note, err = m.attach(node, p.FileSystem)
	}
	if err != nil {
		err = fmt.Errorf("%s on %s: %w", p.FileSystem, d.id, err)
		if m.reads && !c.Protected {
			err = errors.Join(err, k.protect(d, false))
		}
		return nil, "", errors.Join(err, os.Remove(m.at))
	}
	return m, note, nil
}

// partOf is the node of a partition, and what it holds.
func (k *Keeper) partOf(d disk, number int) (node string, p model.DiskPart, err error) {
	i := slices.IndexFunc(d.parts, func(p model.DiskPart) bool { return p.Number == number && systems[p.FileSystem].known })
	if i < 0 {
		return "", p, fmt.Errorf("the file system that was chosen is not on %s any more: it holds %s", d.id, d.sentence())
	}
	if number == 0 {
		return k.node(d.block.name), d.parts[i], nil
	}
	name, ok := k.parts(d.block.name)[number]
	if !ok {
		return "", p, fmt.Errorf("the kernel does not show partition %d of %s: pull the disk out, and plug it in again", number, d.id)
	}
	return k.node(name), d.parts[i], nil
}

// attach has the kernel mount a file system. A journal is not replayed on a disk that
// is not written to; the file system is shown without it.
func (m *mount) attach(node, fstype string) (note string, err error) {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	if m.reads {
		flags |= unix.MS_RDONLY
	}
	how := systems[fstype]
	err = unix.Mount(node, m.at, fstype, flags, how.options)
	if m.reads && err != nil && how.unwritten != "" {
		if unix.Mount(node, m.at, fstype, flags, how.unwritten) == nil {
			return uncleanNote, nil
		}
	}
	return "", err
}

// Bounds of the program that shows NTFS.
const (
	ntfsMemory = 256 << 20
	ntfsLimit  = time.Minute
)

// showNTFS has a program show a file system. It ends when that is unmounted.
func (k *Keeper) showNTFS(ctx context.Context, m *mount, node string) error {
	options := "no_detach,nosuid,nodev,noexec,noatime," + guest.NTFSOptions
	if m.reads {
		options += ",ro"
	}
	s, err := proc.Start(ctx, proc.Service{NoSocket: true, Command: proc.Command{Name: guest.NTFSProgram, Memory: ntfsMemory, Env: []string{"LC_ALL=C"}, Args: []string{"-o", options, node, m.at}}})
	if err != nil {
		return err
	}
	m.shows = s
	if err := k.awaitNTFS(m); err != nil {
		return errors.Join(err, m.abandon())
	}
	return nil
}

// awaitNTFS waits until a program shows a file system, and can write it if it is to.
func (k *Keeper) awaitNTFS(m *mount) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(ntfsLimit); time.Now().Before(deadline); {
		mounts, err := k.mounts()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(mounts, func(v mounted) bool { return v.at == m.at }) {
			return m.writable()
		}
		select {
		case <-m.shows.Done():
			return cmp.Or(m.shows.Err(), errors.New("the program that shows it has ended"))
		case <-tick.C:
		}
	}
	return fmt.Errorf("it was not shown within %v", ntfsLimit)
}

func (m *mount) writable() error {
	var s unix.Statfs_t
	if err := unix.Statfs(m.at, &s); err != nil {
		return err
	}
	if !m.reads && s.Flags&unix.ST_RDONLY != 0 {
		return errors.New("it cannot be written: Windows has not shut down with it, or sleeps; shut it down there, or choose it as a storage for sources")
	}
	return nil
}

// unmountLimit is how long it may take until nobody has a file open.
const unmountLimit = 5 * time.Second

// close writes a file system through and unmounts it. It stays mounted if somebody uses it.
func (m *mount) close() error {
	if m == nil {
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(unmountLimit); ; <-tick.C {
		err := unix.Unmount(m.at, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", m.at, err)
		}
		return errors.Join(m.ended(), os.Remove(m.at))
	}
}

// ended waits until the program has written all that it had.
func (m *mount) ended() error {
	if m.shows == nil {
		return nil
	}
	select {
	case <-m.shows.Done():
		return m.shows.Err()
	case <-time.After(ntfsLimit):
		return m.shows.Kill()
	}
}

// abandon lets go of a file system whose disk is gone.
func (m *mount) abandon() error {
	if m == nil {
		return nil
	}
	var failed []error
	if m.shows != nil {
		failed = append(failed, m.shows.Kill())
	}
	if err := unix.Unmount(m.at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		failed = append(failed, err)
	}
	if err := os.Remove(m.at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// clear unmounts what an agent left that was killed.
func (k *Keeper) clear() error {
	mounts, err := k.mounts()
	if err != nil {
		return err
	}
	for _, v := range mounts {
		if filepath.Dir(v.at) == k.Run {
			err = errors.Join(err, (&mount{at: v.at}).abandon())
		}
	}
	return err
}
