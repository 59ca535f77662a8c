package guests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// partitionTypes are what sfdisk writes into the table for each Type.
var partitionTypes = map[string]string{"ext4": "linux", "xfs": "linux", "btrfs": "linux", "swap": "swap", "vfat": "uefi", "lvm": "lvm", "luks": "linux", raidMember: "raid"}

// partitionScript is the disk's table in sfdisk's words, in 512-byte sectors.
func (d Disk) partitionScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, "label: %s\nlabel-id: %s\nunit: sectors\n", d.Table, d.ID)
	for i, p := range d.Partitions {
		fmt.Fprintf(&b, "start=%d, size=%d, type=%s", d.start(i)/512, p.Size/512, partitionTypes[p.Type])
		if p.GUID != "" {
			b.WriteString(", uuid=" + p.GUID)
		}
		if d.Table == "dos" && p.Mount == "/" {
			b.WriteString(", bootable")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// maker makes a file system in a sparse file of its size. args that give it a
// tree fill it with that; else fill does, if it is wanted.
type maker struct {
	program string
	args    func(v volume, tree, file string) []string
	fill    func(ctx context.Context, b *build, v volume, tree, file string) error
}

var makers = map[string]maker{
	"ext4":  {"mke2fs", mke2fsArgs, nil},
	"xfs":   {"mkfs.xfs", mkxfsArgs, fillMounted},
	"btrfs": {"mkfs.btrfs", mkbtrfsArgs, fillSubvolumes},
	"vfat":  {"mkfs.vfat", mkvfatArgs, nil}, // ours is empty: grub-install fills it
	"swap":  {"mkswap", mkswapArgs, nil},
}

func mke2fsArgs(v volume, tree, file string) []string {
	return []string{
		"-q", "-F", // it is a file
		"-t", "ext4", "-U", v.UUID,
		"-O", "^metadata_csum_seed,^orphan_file", // Debian 12's GRUB cannot read them
		"-d", tree, file,
	}
}

func mkxfsArgs(v volume, _, file string) []string {
	return []string{"-q", "-m", "uuid=" + v.UUID, file}
}

func mkbtrfsArgs(v volume, _, file string) []string {
	return []string{"--quiet", "--uuid", v.UUID, file}
}

func mkvfatArgs(v volume, _, file string) []string {
	return []string{"-F", "32", "-i", strings.ReplaceAll(v.UUID, "-", ""), file}
}

func mkswapArgs(v volume, _, file string) []string {
	return []string{"--quiet", "--uuid", v.UUID, file}
}

// fillScript copies the tree $1 into the file system in $2, mounted on $3. Mount
// and loop device end with the namespace that it runs in, even if it is killed.
const fillScript = `mount -o loop "$2" "$3"; cp -a "$1/." "$3"; umount "$3"`

func fillMounted(ctx context.Context, b *build, _ volume, tree, file string) error {
	return b.fill(ctx, fillScript, tree, file)
}

// fillSubvolumesScript copies the tree $1 into a subvolume $4 of the btrfs in $2,
// mounted on $3, and what is below a folder of the tree, by pairs that follow, into
// a subvolume of its own.
const fillSubvolumesScript = `mount -o loop "$2" "$3"
tree=$1 top=$3 root=$4
shift 4
while [ $# -gt 0 ]; do
	btrfs --quiet subvolume create "$top/$1"
	cp -a "$tree$2/." "$top/$1"
	find "$tree$2" -mindepth 1 -delete
	shift 2
done
btrfs --quiet subvolume create "$top/$root"
cp -a "$tree/." "$top/$root"
umount "$top"`

func fillSubvolumes(ctx context.Context, b *build, v volume, tree, file string) error {
	args := []string{v.Subvolume}
	for _, s := range v.Beside {
		args = append(args, s.Name, s.Mount)
	}
	return b.fill(ctx, fillSubvolumesScript, tree, file, args...)
}

// fill lets a script fill the file system in a file.
func (b *build) fill(ctx context.Context, script, tree, file string, more ...string) error {
	at := filepath.Join(b.dir, "mnt")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	args := append([]string{"--mount", "sh", "-euc", script, "fill", tree, file, at}, more...)
	_, err := proc.Run(ctx, "unshare", args...)
	return err
}

// rawDisk is a disk while it is made.
func rawDisk(dir string, disk int) string { return filepath.Join(dir, fmt.Sprintf("disk%d.raw", disk)) }

func (b *build) raw(disk int) string { return rawDisk(b.dir, disk) }

// disks writes tables and volumes into sparse files, and leaves the tree without
// what is not in its root file system.
func (b *build) disks(ctx context.Context) error {
	for i, d := range b.Disks {
		if err := b.partition(ctx, i, d); err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
	}
	for _, v := range deepestFirst(b.volumes()) {
		if err := b.fillVolume(ctx, v); err != nil {
			return fmt.Errorf("%s %s: %w", v.Type, v.Mount, err)
		}
	}
	return b.stack(ctx)
}

// deepestFirst puts volumes before those that they are mounted in.
func deepestFirst(all []volume) []volume {
	return slices.SortedFunc(slices.Values(all), func(a, b volume) int { return strings.Compare(b.Mount, a.Mount) })
}

func (b *build) partition(ctx context.Context, i int, d Disk) error {
	if err := createSparse(b.raw(i), d.Size); err != nil {
		return err
	}
	_, err := proc.Command{
		Name: "sfdisk", Args: []string{"--quiet", b.raw(i)},
		Stdin: strings.NewReader(d.partitionScript()),
	}.Run(ctx)
	if err != nil {
		return err
	}
	for n, p := range d.Partitions {
		if p.Group.Name == "" || p.Locked.Name != "" {
			continue
		}
		if err := b.makeGroup(ctx, p, i, d.start(n)); err != nil {
			return fmt.Errorf("group %s: %w", p.Group.Name, err)
		}
	}
	return nil
}

// fillVolume makes a volume of what the tree has below its mount point, and
// empties that unless it is the root.
func (b *build) fillVolume(ctx context.Context, v volume) error {
	if v.stacked && v.Mount == swapSpace {
		return nil // it has no content
	}
	file := filepath.Join(b.dir, "volume")
	if err := createSparse(file, v.Size); err != nil {
		return err
	}
	tree := filepath.Join(b.tree(), v.Mount) // that of swap does not exist
	m := makers[v.Type]
	if v.Mount != swapSpace {
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return err
		}
	}
	if _, err := proc.Run(ctx, m.program, m.args(v, tree, file)...); err != nil {
		return err
	}
	if m.fill != nil {
		if err := m.fill(ctx, b, v, tree, file); err != nil {
			return err
		}
	}
	if err := b.placeVolume(v, file); err != nil {
		return err
	}
	if v.Mount == "/" || v.Mount == swapSpace {
		return nil
	}
	return empty(tree)
}

// placeVolume puts a volume where it is, or keeps it for the stack that it lies on.
func (b *build) placeVolume(v volume, file string) error {
	if v.stacked {
		return os.Rename(file, contentFile(b.dir, v))
	}
	return place(file, b.raw(v.disk), v.start)
}

// empty removes all that is in a folder.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// place moves what is not a hole in a file to its place on a disk.
func place(file, disk string, start int64) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(copyData(to, from, start), to.Close()); err != nil {
		return err
	}
	return os.Remove(file)
}

// copyData copies all extents of a sparse file.
func copyData(to, from *os.File, start int64) error {
	fd := int(from.Fd())
	for end := int64(0); ; {
		data, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left, lseek(2)
		}
		if err != nil {
			return fmt.Errorf("seek in %s: %w", from.Name(), err)
		}
		if end, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("seek in %s: %w", from.Name(), err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, start+data), io.NewSectionReader(from, data, end-data)); err != nil {
			return err
		}
	}
}

func createSparse(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// vmdkArgs turn a raw disk into what an OVF export holds.
func vmdkArgs(raw, vmdk string) []string {
	return []string{"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", raw, vmdk}
}

// export writes the files that a test moves.
func (b *build) export(ctx context.Context) error {
	for i, vmdk := range b.VMDKs {
		if _, err := proc.Run(ctx, "qemu-img", vmdkArgs(b.raw(i), vmdk)...); err != nil {
			return err
		}
		if err := os.Remove(b.raw(i)); err != nil {
			return err
		}
	}
	return os.WriteFile(b.VMX, []byte(b.vmx()), 0o644)
}
