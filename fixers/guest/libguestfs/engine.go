//go:build appliance

package libguestfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"libguestfs.org/guestfs"

	"hyper2kvm/fixers/guest"
)

// Available tells whether this program was built with libguestfs.
const Available = true

// engine is an opened guest. It implements guest.Guest.
type engine struct {
	handle   *guestfs.Guestfs
	topology guest.Topology
	devices  map[string]string // of libguestfs, by the topology's names
	labelled map[string]string // the same, as programs inside the appliance know them
	mounted  bool
	log      *slog.Logger
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
	g := &engine{handle: handle, devices: map[string]string{}, labelled: map[string]string{}, log: log}
	if err := g.start(ctx, disks, opts); err != nil {
		handle.Close()
		return nil, err
	}
	return g, nil
}

func (g *engine) start(ctx context.Context, disks []Export, opts Options) error {
	if err := configure(g.handle, disks, opts); err != nil {
		return err
	}
	began := time.Now()
	if err := launch(ctx, g.handle, opts.deadline()); err != nil {
		return err
	}
	g.log.Info("libguestfs is up", "took", time.Since(began), "emulated", opts.TCG)
	if err := g.readTopology(); err != nil {
		return fmt.Errorf("topology: %w", err)
	}
	return nil
}

func configure(handle *guestfs.Guestfs, disks []Export, opts Options) error {
	if err := handle.Set_backend("direct"); err != nil { // no libvirt between us and QEMU
		return err
	}
	if opts.TCG {
		if err := handle.Set_backend_settings([]string{"force_tcg"}); err != nil {
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

// readTopology asks the appliance what lies on the disks.
func (g *engine) readTopology() error {
	devices, err := g.handle.List_devices()
	if err != nil {
		return err
	}
	for i, device := range devices {
		g.labelled[fmt.Sprintf("disk%d", i)] = "/dev/disk/guestfs/" + label(i)
		disk, err := g.readDisk(device, fmt.Sprintf("disk%d", i))
		if err != nil {
			return fmt.Errorf("disk%d: %w", i, err)
		}
		g.topology.Disks = append(g.topology.Disks, disk)
	}
	if err := g.readVolumes(); err != nil {
		return err
	}
	return g.topology.ReadSpans(g.reader)
}

// reader reads a device of the topology.
func (g *engine) reader(device string) io.ReaderAt { return raw{g.handle, g.devices[device]} }

// readVolumes adds the logical volumes and what they hold. The appliance has
// activated the groups that are whole when it started; of the others LVM
// activates the volumes that are.
func (g *engine) readVolumes() error {
	if err := g.topology.ReadVolumes(g.reader); err != nil || len(g.topology.Volumes) == 0 {
		return err
	}
	if err := g.handle.Vg_activate_all(true); err != nil {
		g.log.Warn("LVM could not activate every volume", "err", err)
	}
	for i := range g.topology.Volumes {
		v := &g.topology.Volumes[i]
		if v.Problem != "" {
			continue
		}
		if err := g.openVolume(v); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return nil
}

func (g *engine) openVolume(v *guest.Volume) error {
	device := "/dev/" + v.Name
	uuid, err := g.handle.Lvuuid(device)
	if errors.Is(failed("", device, err), fs.ErrNotExist) {
		v.Problem = "LVM could not activate it"
		return nil
	}
	if err != nil {
		return err
	}
	if uuid != v.UUID {
		v.Problem = "LVM has activated another volume of its name"
		return nil
	}
	g.devices[v.Name], g.labelled[v.Name] = device, device
	_, err = g.identify(v.Name, v.Size)
	return err
}

func (g *engine) readDisk(device, name string) (disk guest.Disk, err error) {
	size, err := g.handle.Blockdev_getsize64(device)
	if err != nil {
		return disk, err
	}
	disk, err = guest.ReadTable(raw{g.handle, device}, size)
	if errors.Is(err, guest.ErrTable) {
		g.log.Warn("the partition table is not usable", "disk", name, "err", err)
	} else if err != nil {
		return disk, err
	}
	disk.Name = name
	g.devices[name] = device
	for i := range disk.Partitions {
		p := &disk.Partitions[i]
		p.Name = fmt.Sprintf("%sp%d", name, p.Number)
		g.devices[p.Name] = fmt.Sprintf("%s%d", device, p.Number)
		g.labelled[p.Name] = fmt.Sprintf("%s%d", g.labelled[name], p.Number)
		if disk.Table == "mbr" && guest.IsExtended(p.Type) {
			continue
		}
		if _, err := g.identify(p.Name, p.Size); err != nil {
			return disk, err
		}
	}
	if len(disk.Partitions) == 0 {
		found, err := g.identify(name, disk.Size)
		if err != nil {
			return disk, err
		}
		if found { // a boot sector that looked like an empty table
			disk.Table, disk.ID = "", ""
		}
	}
	return disk, nil
}

// raw reads a device's bytes.
type raw struct {
	handle *guestfs.Guestfs
	device string
}

// ReadAt reads in parts that fit into a message.
func (r raw) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		data, err := r.handle.Pread_device(r.device, min(chunk, len(p)-n), off+int64(n))
		if err != nil {
			return n, err
		}
		if len(data) == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += copy(p[n:], data)
	}
	return n, nil
}

// identify adds what a device holds to the topology, if that is known.
func (g *engine) identify(name string, size int64) (bool, error) {
	device := g.devices[name]
	fstype, err := g.handle.Vfs_type(device)
	if err != nil || fstype == "" {
		return false, err
	}
	uuid, err := g.handle.Vfs_uuid(device)
	if err != nil {
		return false, err
	}
	label, err := g.handle.Vfs_label(device)
	if err != nil {
		return false, err
	}
	g.topology.Filesystems = append(g.topology.Filesystems, guest.Filesystem{Device: name, Type: fstype, UUID: uuid, Label: label, Size: size})
	return true, nil
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
var options = map[string]string{"xfs": ",nouuid", "ext4": ",noinit_itable", "vfat": ",fmask=0133,dmask=0022,quiet"}

// Mount mounts a file system inside the virtual machine. libguestfs resolves
// the folder outside of the guest's root, so links are followed here.
func (g *engine) Mount(device, at string) error {
	defer pin(g.handle)()
	found, ok := g.filesystem(device)
	if !ok {
		return fmt.Errorf("mount %s: no such file system: %w", device, fs.ErrNotExist)
	}
	if !g.mounted && path.Clean(at) != "/" {
		return fmt.Errorf("mount at %s: nothing is mounted at / yet", at)
	}
	if g.mounted {
		var err error
		if at, err = guest.NewView(g).Resolve(at); err != nil {
			return err
		}
		if _, err := g.Lstat(at); err != nil {
			return fmt.Errorf("mount %s: %w", device, err)
		}
	}
	err := g.handle.Mount_options("nosuid,nodev,noexec,noatime"+options[found.Type], g.devices[device], at)
	if err != nil {
		return fmt.Errorf("mount %s: %s", device, reason(err, g.devices[device]))
	}
	g.mounted = true
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

// UnmountAll writes everything through and unmounts.
func (g *engine) UnmountAll() error {
	defer pin(g.handle)()
	g.mounted = false
	return errors.Join(g.handle.Sync(), g.handle.Umount_all())
}

// Close unmounts, writes everything through and ends the virtual machine. Its
// error means that writes may be missing.
func (g *engine) Close() error {
	defer pin(g.handle)()
	err := errors.Join(g.UnmountAll(), g.handle.Shutdown())
	if closed := g.handle.Close(); closed != nil { // a *GuestfsError: nil must not become an error
		err = errors.Join(err, closed)
	}
	return err
}
