package direct

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mounts are file systems mounted where only we see them: in the mount
// namespace of one thread. The namespace ends with the thread and the thread
// with the process, so a killed agent leaves nothing mounted.
type mounts struct {
	calls chan func() // nil once closed
	base  string      // a tmpfs of our own, in our namespace alone
	list  []mounted
}

// mounted is one file system. Its folder is open so that it can be synced.
type mounted struct {
	path   string
	folder *os.File
	device *shared
}

// newMounts starts the thread. No other goroutine ever runs on it: it is
// locked and never unlocked, so the thread ends when the goroutine does.
func newMounts() (*mounts, error) {
	base, err := filepath.EvalSymlinks(os.TempDir()) // as the kernel names what is mounted there
	if err != nil {
		return nil, err
	}
	m := &mounts{calls: make(chan func()), base: base}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := m.enter(); err != nil {
			ready <- err
			return
		}
		ready <- nil
		for call := range m.calls {
			call()
		}
	}()
	return m, <-ready
}

func (m *mounts) enter() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", m.base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=0700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return os.Mkdir(m.root(), 0o700)
}

func (m *mounts) root() string { return filepath.Join(m.base, "root") }

// do runs f on the thread that sees the mounts, until that has ended.
func (m *mounts) do(f func() error) error {
	if m.calls == nil {
		return fs.ErrClosed
	}
	done := make(chan error)
	m.calls <- func() { done <- f() }
	return <-done
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
// "/". It tells whether a journal was replayed, as far as the kernel shows its log.
func (m *mounts) mount(d *shared, fstype, option, at string) (replay bool, err error) {
	err = m.do(func() error {
		target, err := m.target(at)
		if err != nil {
			return err
		}
		log := openKernelLog()
		flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME)
		err = unix.Mount(d.node(), target, fstype, flags, options[fstype]+option)
		said := log.about(d.node())
		if err != nil {
			return refused(fstype, err, said)
		}
		replay = replayed(said)
		folder, err := os.Open(target)
		if err != nil {
			return errors.Join(err, unix.Unmount(target, unix.UMOUNT_NOFOLLOW))
		}
		m.list = append(m.list, mounted{path: target, folder: folder, device: d})
		return nil
	})
	return replay, err
}

// target finds the folder to mount at, resolved inside the guest.
func (m *mounts) target(at string) (string, error) {
	if len(m.list) == 0 {
		if path.Clean(at) != "/" {
			return "", fmt.Errorf("mount at %s: nothing is mounted at / yet", at)
		}
		return m.root(), nil
	}
	fd, err := openIn(int(m.list[0].folder.Fd()), at, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", failed("mount", at, err)
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
		if err := unix.Syncfs(int(last.folder.Fd())); err != nil {
			errs = append(errs, fmt.Errorf("sync: %w", err))
		}
		errs = append(errs, last.folder.Close(),
			m.unmount(last.path),
			last.device.detach())
		m.list = m.list[:len(m.list)-1]
	}
	return errors.Join(errs...)
}

// unmount waits for whoever has a file open for a moment: a program that is
// being started has all of ours until it runs.
func (m *mounts) unmount(path string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(detachWait); ; <-tick.C {
		err := m.do(func() error { return unix.Unmount(path, unix.UMOUNT_NOFOLLOW) })
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// close ends the thread and with it the namespace. Closing twice is harmless.
func (m *mounts) close() error {
	if m.calls == nil {
		return nil
	}
	err := errors.Join(m.unmountAll(), m.do(func() error { return unix.Unmount(m.base, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }))
	close(m.calls)
	m.calls = nil
	return err
}
