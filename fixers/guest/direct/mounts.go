package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/files"
	"hyper2kvm/pipeline/proc"
)

// mounts are file systems mounted where only this process sees them, in a mount
// namespace that ends with it: killed, it leaves nothing mounted.
type mounts struct {
	base string // a tmpfs of our own, all that the process with the files sees
	list []mounted
	ids  sync.Map // the numbers of the mounts
}

// mounted is one file system. Its folder is open so that it can be synced.
type mounted struct {
	path   string
	folder *os.File
	device *shared
	id     string
	shows  *proc.Server // the program that shows it; nil for the kernel
}

// rootFolder is where in base a guest's root is mounted.
const rootFolder = "/root"

// newMounts makes the place to mount at. The namespace is the process's own already.
func newMounts() (*mounts, error) {
	base, err := filepath.EvalSymlinks(os.TempDir()) // as the kernel names what is mounted there
	if err != nil {
		return nil, err
	}
	m := &mounts{base: base}
	if err := unix.Mount("tmpfs", m.base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=0700"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	return m, os.Mkdir(m.root(), 0o700)
}

func (m *mounts) root() string { return filepath.Join(m.base, rootFolder) }

// have refuses a descriptor of a file that is not on one of the mounts.
func (m *mounts) have(fd int) error {
	id, err := files.MountID(fd)
	if err != nil {
		return err
	}
	if _, ok := m.ids.Load(id); !ok {
		return unix.EPERM
	}
	return nil
}

// options for each file system that this engine mounts. errors=remount-ro: a
// guest's superblock may ask that the kernel panics at errors. noinit_itable:
// the kernel shall not fill the overlay with empty inode tables. nouuid: clones
// of one template have equal UUIDs. skip_balance: what the guest has begun to move
// about stays as it is. FAT has no modes: all files have that of a new one, and
// nobody hears that they cannot have another; its times are the guest's, and read
// as UTC whatever this machine's clock is set to.
//
// Source: ext4(5), xfs(5), btrfs(5), mount(8).
var options = map[string]string{
	"ext2":  "errors=remount-ro",
	"ext3":  "errors=remount-ro",
	"ext4":  "errors=remount-ro,noinit_itable",
	"xfs":   "nouuid",
	"btrfs": "skip_balance",
	"vfat":  "errors=remount-ro,fmask=0133,dmask=0022,quiet,tz=UTC",
	"ntfs":  guest.NTFSOptions,
}

// Knows tells whether this engine mounts file systems of a type, if the kernel
// has what it takes.
func Knows(fstype string) bool {
	_, ok := options[fstype]
	return ok
}

// refusals are how a kernel answers that it does not know a file system, or not
// all of its features, or knows a btrfs of its UUID already: another kernel may show
// it. Damage has answers of its own.
//
// Source: mount(2); Linux fs/ext4/super.c, fs/xfs/xfs_mount.c, fs/btrfs/volumes.c.
var refusals = []error{unix.ENODEV, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS, unix.EEXIST}

// refused adds ErrUnsupported to what a mount failed for, where it is so, and what
// the kernel said.
func refused(fstype string, err error, said []line) error {
	unknown := slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) })
	err = fmt.Errorf("mount as %s: %w", fstype, err)
	if unknown {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if text := complaint(said); text != "" {
		err = fmt.Errorf("%w: the kernel says: %s", err, text)
	}
	return err
}

// mount puts a device at a folder of the guest, with an option more; the first at
// "/". It tells the mount's number, and whether a journal was replayed, as far as the
// kernel shows its log.
func (m *mounts) mount(ctx context.Context, d *shared, fstype, option, at string) (id string, replay bool, err error) {
	target, err := m.target(at)
	if err != nil {
		return "", false, err
	}
	if fstype == "ntfs" {
		id, err = m.mountNTFS(ctx, d, target)
		return id, false, err
	}
	log := openKernelLog()
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
	err = unix.Mount(d.Node(), target, fstype, flags, options[fstype]+option)
	said := log.about(d.Node())
	if err != nil {
		return "", false, refused(fstype, err, said)
	}
	if id, err = m.add(target, d, nil); err != nil {
		return "", false, errors.Join(err, unix.Unmount(target, unix.UMOUNT_NOFOLLOW))
	}
	return id, replayed(said), nil
}

// add keeps what was mounted.
func (m *mounts) add(target string, d *shared, shows *proc.Server) (id string, err error) {
	folder, err := os.Open(target)
	if err != nil {
		return "", err
	}
	id, err = files.MountID(int(folder.Fd()))
	if err != nil {
		return "", errors.Join(err, folder.Close())
	}
	m.ids.Store(id, true)
	m.list = append(m.list, mounted{target, folder, d, id, shows})
	return id, nil
}

// mountNTFS is mount of NTFS.
func (m *mounts) mountNTFS(ctx context.Context, d *shared, target string) (id string, err error) {
	s, err := mountNTFS(ctx, d.Node(), target)
	if err != nil {
		return "", err
	}
	if id, err = m.add(target, d, s); err != nil {
		return "", errors.Join(err, unix.Unmount(target, unix.UMOUNT_NOFOLLOW), ended(s))
	}
	return id, nil
}

// readOnly tells whether the last that was mounted cannot be written.
func (m *mounts) readOnly() (bool, error) {
	var s unix.Statfs_t
	err := unix.Fstatfs(int(m.list[len(m.list)-1].folder.Fd()), &s)
	return s.Flags&unix.ST_RDONLY != 0, err
}

// target finds the folder to mount at, resolved inside the guest.
func (m *mounts) target(at string) (string, error) {
	if len(m.list) == 0 {
		if path.Clean(at) != "/" {
			return "", fmt.Errorf("mount at %s: nothing is mounted at / yet", at)
		}
		return m.root(), nil
	}
	fd, err := files.OpenIn(int(m.list[0].folder.Fd()), at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", files.Failed("mount", at, err)
	}
	defer unix.Close(fd)
	target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(target, m.root()+"/") {
		return "", fmt.Errorf("mount at %s: is not below the guest's root", at)
	}
	return target, nil
}

// unmountAll writes everything through, unmounts in reverse order and detaches
// the devices. It does all that it can; its error names what it could not.
func (m *mounts) unmountAll() error {
	var errs []error
	for len(m.list) > 0 {
		last := m.list[len(m.list)-1]
		m.ids.Delete(last.id)
		if err := unix.Syncfs(int(last.folder.Fd())); err != nil {
			errs = append(errs, fmt.Errorf("sync: %w", err))
		}
		errs = append(errs, last.folder.Close(), unmount(last.path))
		if last.shows != nil {
			errs = append(errs, ended(last.shows))
		}
		errs = append(errs, last.device.Detach())
		m.list = m.list[:len(m.list)-1]
	}
	return errors.Join(errs...)
}

// patience is how long others may keep what we let go of: another program, such as
// udev, may look at it for a moment.
const patience = 10 * time.Second

// unmount waits for whoever has a file open for a moment: a program that is
// being started has all of ours until it runs.
func unmount(path string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
