//go:build appliance

package libguestfs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"libguestfs.org/guestfs"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/accel"
)

// Available tells whether this program was built with libguestfs.
const Available = true

// engine is an opened guest. It implements guest.Guest.
type engine struct {
	handle   *guestfs.Guestfs
	topology guest.Topology
	devices  map[string]string // of libguestfs, by the topology's names
	labelled map[string]string // the same, as programs inside the appliance know them
	// activated is how many physical volumes there were when LVM last activated.
	activated int
	crypts    []string // names of what is encrypted, in /dev/mapper
	mounts    []guest.Mounted
	log       *slog.Logger

	name string                // of the virtual machine
	cut  atomic.Pointer[error] // why the guest is not wanted any more
	keep func() bool           // from now on it is, whatever becomes of the context
}

// pin keeps the calling goroutine on its thread until the returned function is
// called. libguestfs keeps the last error and how it is printed per thread, and
// the binding asks for the error in a second call. Every way into the library
// begins with it.
func pin(handle *guestfs.Guestfs) func() {
	runtime.LockOSThread()
	handle.Quiet()
	return runtime.UnlockOSThread
}

func open(ctx context.Context, disks []Export, opts Options, log *slog.Logger) (guest.Guest, error) {
	handle, err := guestfs.Create_flags(guestfs.CREATE_NO_ENVIRONMENT)
	if err != nil {
		return nil, fmt.Errorf("libguestfs: %w", err)
	}
	defer pin(handle)()
	g := &engine{handle: handle, devices: map[string]string{}, labelled: map[string]string{}, log: log, name: "libguestfs-" + rand.Text()}
	if err := g.start(ctx, disks, opts); err != nil {
		handle.Close()
		return nil, err
	}
	return g, nil
}

// interrupt ends the virtual machine: a call that is under way then returns, and others
// fail. It may be called at any time, by anybody.
func (g *engine) interrupt(why error) {
	g.cut.Store(&why)
	if err := killChild(g.name); err != nil {
		g.log.Warn("libguestfs goes on", "err", err)
	}
}

// interrupted is why the guest was interrupted, if it was.
func (g *engine) interrupted() error {
	if why := g.cut.Load(); why != nil {
		return *why
	}
	return nil
}

func (g *engine) start(ctx context.Context, disks []Export, opts Options) error {
	if err := configure(g.handle, disks, opts); err != nil {
		return err
	}
	began := time.Now()
	if err := launch(ctx, g.handle, g.name, opts.deadline()); err != nil {
		return err
	}
	g.log.Info("libguestfs is up", "took", time.Since(began), "emulated", opts.TCG)
	g.keep = context.AfterFunc(ctx, func() { g.interrupt(context.Cause(ctx)) })
	if err := g.readTopology(ctx, opts.Keys); err != nil {
		g.keep()
		return fmt.Errorf("topology: %w", cmp.Or(g.interrupted(), err))
	}
	return nil
}

// hush keeps libguestfs from telling what it is asked, whatever its environment wants:
// keys are among it.
//
// Source: guestfs(3), LIBGUESTFS_TRACE and LIBGUESTFS_DEBUG.
func hush(handle *guestfs.Guestfs) error {
	return errors.Join(handle.Set_trace(false), handle.Set_verbose(false))
}

func configure(handle *guestfs.Guestfs, disks []Export, opts Options) error {
	if err := handle.Set_backend("direct"); err != nil { // no libvirt between us and QEMU
		return err
	}
	read := readOnly
	if err := handle.Set_append(&read); err != nil {
		return err
	}
	if opts.Keys != nil {
		if err := hush(handle); err != nil {
			return err
		}
	}
	if opts.TCG {
		cpu := accel.Emulated(false) // Debian's kernels and programs run on any x86-64
		if err := errors.Join(handle.Set_backend_settings([]string{"force_tcg"}), handle.Config("-cpu", &cpu)); err != nil {
			return err
		}
	}
	if opts.Memory > 0 {
		if err := handle.Set_memsize(int(opts.Memory >> 20)); err != nil {
			return err
		}
	}
	for i, disk := range disks {
		drive := guestfs.OptargsAdd_drive{
			Format_is_set: true, Format: "raw", // never probed on a guest's bytes
			Protocol_is_set: true, Protocol: "nbd",
			Server_is_set: true, Server: []string{"unix:" + disk.Socket},
			Label_is_set: true, Label: label(i),
		}
		if err := handle.Add_drive(disk.Name, &drive); err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
	}
	return nil
}

// label is what a disk is called inside the appliance, whose kernel may name disks
// in any order: the library translates /dev/sda in its own calls alone.
//
// Source: guestfs(3), guestfs_add_drive, label: letters only.
func label(i int) string {
	return "disk" + strings.NewReplacer("0", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", "8", "i", "9", "j").Replace(fmt.Sprint(i))
}

// Topology is what lies on the disks.
func (g *engine) Topology() guest.Topology { return g.topology }

func (g *engine) filesystem(device string) (guest.Filesystem, bool) {
	i := slices.IndexFunc(g.topology.Filesystems, func(f guest.Filesystem) bool { return f.Device == device })
	if i < 0 {
		return guest.Filesystem{}, false
	}
	return g.topology.Filesystems[i], true
}

// options beyond those of every mount: clones have equal UUIDs, and the kernel
// shall not fill the overlay with empty inode tables. FAT has no modes: all files
// have that of a new one, and nobody hears that they cannot have another.
var options = map[string]string{"xfs": ",nouuid", "ext4": ",noinit_itable", "vfat": ",fmask=0133,dmask=0022,quiet", "ntfs": "," + guest.NTFSOptions}

// Mount mounts a file system inside the virtual machine. libguestfs resolves
// the folder outside of the guest's root, so links are followed here.
func (g *engine) Mount(device, at string) error { return g.mount(device, "", at) }

// MountSubvolume mounts a subvolume of a btrfs.
//
// Source: btrfs(5), subvolid=.
func (g *engine) MountSubvolume(device string, id uint64, at string) error {
	if found, ok := g.filesystem(device); ok {
		if _, err := found.Subvolume(id); err != nil {
			return fmt.Errorf("mount %w", err)
		}
	}
	return g.mount(device, fmt.Sprintf(",subvolid=%d", id), at)
}

// mount mounts what an option more says of a file system.
func (g *engine) mount(device, option, at string) error {
	defer pin(g.handle)()
	found, ok := g.filesystem(device)
	if !ok {
		return fmt.Errorf("mount %s: no such file system: %w", device, fs.ErrNotExist)
	}
	if len(g.mounts) == 0 && path.Clean(at) != "/" {
		return fmt.Errorf("mount at %s: nothing is mounted at / yet", at)
	}
	if len(g.mounts) > 0 {
		var err error
		if at, err = guest.NewView(g).Resolve(at); err != nil {
			return err
		}
		if _, err := g.Lstat(at); err != nil {
			return fmt.Errorf("mount %s: %w", device, err)
		}
	}
	err := g.handle.Mount_options("nosuid,nodev,noexec,noatime"+options[found.Type]+option, g.devices[device], at)
	if err != nil {
		return fmt.Errorf("mount %s: %s", device, reason(err, g.devices[device]))
	}
	g.mounts = append(g.mounts, guest.Mounted{Device: device, At: path.Clean(at)})
	if found.Type == "ntfs" {
		return g.noteUnclean(device, at)
	}
	return nil
}

// noteUnclean keeps with the topology whether an NTFS is shown as it was, and cannot be
// written.
func (g *engine) noteUnclean(device, at string) error {
	s, err := g.handle.Statvfs(at)
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	g.topology.Filesystems = slices.Clone(g.topology.Filesystems) // others may have the old list
	for i := range g.topology.Filesystems {
		if f := &g.topology.Filesystems[i]; f.Device == device {
			f.Unclean = s.Flag&unix.ST_RDONLY != 0
		}
	}
	return nil
}

// reason is what mount(8) said inside the appliance, in one line and without the
// names that only the appliance knows.
func reason(err error, device string) string {
	text := err.Error()
	if e, ok := errors.AsType[*guestfs.GuestfsError](err); ok {
		text = e.Errmsg
	}
	if _, said, ok := strings.Cut(text, "mount: /sysroot"); ok {
		_, text, _ = strings.Cut(said, ": ")
	}
	text, _, _ = strings.Cut(text, "\n")
	return kernelName.ReplaceAllString(strings.ReplaceAll(text, device, "it"), "it")
}

// kernelName is a disk's or a partition's in the appliance's kernel, which may be
// that of another in the library.
var kernelName = regexp.MustCompile(`/dev/sd[a-z]+[0-9]*`)

// Err asks the virtual machine whether it is still there. Of a guest that was interrupted
// it is the context's cause.
func (g *engine) Err() error {
	defer pin(g.handle)()
	if err := g.interrupted(); err != nil {
		return err
	}
	if err := g.handle.Ping_daemon(); err != nil {
		return fmt.Errorf("the virtual machine that has the guest's disks broke down: %w", err)
	}
	return nil
}

// UnmountAll writes everything through and unmounts.
func (g *engine) UnmountAll() error {
	defer pin(g.handle)()
	if len(g.mounts) == 0 {
		return nil
	}
	g.mounts = nil
	return errors.Join(g.handle.Sync(), g.handle.Umount_all())
}

// Close unmounts, writes everything through and ends the virtual machine. Its
// error means that writes may be missing.
func (g *engine) Close() error {
	defer pin(g.handle)()
	err := errors.Join(g.UnmountAll(), g.closeVolumes(), g.handle.Shutdown())
	g.keep()
	if why := g.interrupted(); why != nil {
		err = why
	}
	if closed := g.handle.Close(); closed != nil { // a *GuestfsError: nil must not become an error
		err = errors.Join(err, closed)
	}
	return err
}
