package guests

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// firstByte is where the first partition begins: 1 MiB, as every installer since
// 2010 has it, which leaves the gap that grub-install writes its core into.
const firstByte = mib

// start is where a partition begins on the disk, in bytes.
func (d Disk) start(partition int) int64 {
	at := firstByte
	for _, p := range d.Partitions[:partition] {
		at += p.Size
	}
	return at
}

// partitionScript is the disk's MBR in sfdisk's words, in 512-byte sectors.
func (r Recipe) partitionScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, "label: dos\nlabel-id: 0x%08x\nunit: sectors\n", r.Disk.Label)
	for i, p := range r.Disk.Partitions {
		kind := "83, bootable"
		if p.Type == "swap" {
			kind = "82"
		}
		fmt.Fprintf(&b, "start=%d, size=%d, type=%s\n", r.Disk.start(i)/512, p.Size/512, kind)
	}
	return b.String()
}

// mke2fsArgs fill a partition of a raw disk with a tree.
func mke2fsArgs(d Disk, partition int, tree, raw string) []string {
	p := d.Partitions[partition]
	return []string{
		"-q", "-F", // it is a file, and not an empty one
		"-t", "ext4", "-U", p.UUID,
		"-O", "^metadata_csum_seed,^orphan_file", // Debian 12's GRUB cannot read them
		"-E", fmt.Sprintf("offset=%d", d.start(partition)),
		"-d", tree, raw, fmt.Sprintf("%dk", p.Size/1024),
	}
}

// vmdkArgs turn the raw disk into what an OVF export holds.
func vmdkArgs(raw, vmdk string) []string {
	return []string{"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", raw, vmdk}
}

func (b *build) raw() string { return filepath.Join(b.dir, "disk.raw") }

// disk writes the partitions and their file systems into a sparse file.
func (b *build) disk(ctx context.Context) error {
	if err := createSparse(b.raw(), b.Disk.Size); err != nil {
		return err
	}
	_, err := proc.Command{
		Name: "sfdisk", Args: []string{"--quiet", b.raw()},
		Stdin: strings.NewReader(b.partitionScript()),
	}.Run(ctx)
	if err != nil {
		return err
	}
	for i, p := range b.Disk.Partitions {
		if err := b.format(ctx, i, p); err != nil {
			return fmt.Errorf("partition %d: %w", i+1, err)
		}
	}
	return os.RemoveAll(b.tree())
}

func (b *build) format(ctx context.Context, i int, p Partition) error {
	switch {
	case p.Type == "swap":
		return b.makeSwap(ctx, i, p)
	case p.Type == "ext4" && p.Mount == "/":
		_, err := proc.Run(ctx, "mke2fs", mke2fsArgs(b.Disk, i, b.tree(), b.raw())...)
		return err
	}
	return fmt.Errorf("no way is known to make %s for %s", p.Type, p.Mount)
}

// makeSwap copies the head of a swap space made elsewhere: mkswap knows no offset.
func (b *build) makeSwap(ctx context.Context, i int, p Partition) error {
	swap := filepath.Join(b.dir, "swap")
	if err := createSparse(swap, p.Size); err != nil {
		return err
	}
	if _, err := proc.Run(ctx, "mkswap", "--quiet", "--uuid", p.UUID, swap); err != nil {
		return err
	}
	head, err := os.Open(swap)
	if err != nil {
		return err
	}
	defer head.Close()
	disk, err := os.OpenFile(b.raw(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	const page = 4096 // the head of a swap space is one page, mkswap(8)
	_, err = io.Copy(io.NewOffsetWriter(disk, b.Disk.start(i)), io.LimitReader(head, page))
	if shut := disk.Close(); err == nil {
		err = shut
	}
	if err != nil {
		return err
	}
	return os.Remove(swap)
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

// export writes the two files that a test moves.
func (b *build) export(ctx context.Context) error {
	if _, err := proc.Run(ctx, "qemu-img", vmdkArgs(b.raw(), b.VMDK)...); err != nil {
		return err
	}
	if err := os.WriteFile(b.VMX, []byte(b.vmx()), 0o644); err != nil {
		return err
	}
	return os.Remove(b.raw())
}
