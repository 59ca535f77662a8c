package guests

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"
)

// Locked is a device that LUKS has encrypted, version 2, as Debian's installer makes
// it: of one passphrase, which is asked for at the console.
type Locked struct {
	Name       string // below /dev/mapper
	UUID       string
	Passphrase string
	Named      Names // how crypttab names it
}

// lockedHeader is what cryptsetup puts in front of the encrypted bytes.
// Source: cryptsetup, lib/luks2/luks2.h, LUKS2_DEFAULT_HDR_SIZE.
const lockedHeader = 16 * mib

// lockedVolumes are those of the group in an encrypted partition that begins there.
func (p Partition) lockedVolumes(disk int, start int64) []volume {
	all := p.Group.volumes(disk, start+lockedHeader)
	for i := range all {
		all[i].stacked = true
	}
	return all
}

// formatArgs make the header. Its slot is opened in a second even where the processor
// is emulated: Argon2id, cryptsetup's usual choice, which would take a gigabyte and two
// seconds of a real processor, is held to 32 MiB, four passes and one thread.
func (l Locked) formatArgs(device string) []string {
	return []string{"luksFormat", "--batch-mode", "--key-file=-", "--type=luks2", "--uuid=" + l.UUID,
		"--pbkdf=argon2id", "--pbkdf-memory=32768", "--pbkdf-force-iterations=4", "--pbkdf-parallel=1", device}
}

// lockedPartition is a partition that is encrypted, and its names.
type lockedPartition struct {
	Partition
	path, kernel string // by VMware's path, and in the kernel's order
}

// locked are the encrypted partitions.
func (r Recipe) locked() []lockedPartition {
	var all []lockedPartition
	for i, d := range r.Disks {
		for n, p := range d.Partitions {
			if p.Locked.Name != "" {
				all = append(all, lockedPartition{p, fmt.Sprintf("%s-part%d", r.byPath(i), n+1), buses[r.Bus].kernel(i, n+1)})
			}
		}
	}
	return all
}

func (p lockedPartition) spec() string {
	switch p.Locked.Named {
	case ByPath:
		return p.path
	case ByKernel:
		return p.kernel
	}
	return "UUID=" + p.Locked.UUID
}

// crypttab has the lines that Debian's installer writes.
// Source: partman-crypto, finish.d/crypto_config.
func (r Recipe) crypttab() []file {
	lines := ""
	for _, p := range r.locked() {
		lines += fmt.Sprintf("%s %s none luks,discard\n", p.Locked.Name, p.spec())
	}
	if lines == "" {
		return nil
	}
	return []file{{Path: "etc/crypttab", Mode: 0o644, Content: lines}}
}

// finishKey is where the finish boot's initrd has the passphrase, which nobody could
// type there. No initrd of the guest's has it.
const finishKey = "/cryptroot/finish.key"

// unlockArgument has the finish boot's initrd open what is encrypted: it was made in a
// tree, where nothing is.
// Source: cryptsetup-initramfs, scripts/local-top/cryptroot, cryptopts=.
func (r Recipe) unlockArgument() string {
	line := ""
	for _, p := range r.locked() {
		line += fmt.Sprintf(" cryptopts=target=%s,source=UUID=%s,key=%s,luks,discard", p.Locked.Name, p.Locked.UUID, finishKey)
	}
	return line
}

// unlockInitrd adds the passphrase to the initrd of the finish boot. Linux unpacks one
// archive after the other.
func (b *build) unlockInitrd(k *kernel) error {
	locked := b.locked()
	if len(locked) == 0 {
		return nil
	}
	with := filepath.Join(b.dir, "initrd-finish.img")
	to, err := os.Create(with)
	if err != nil {
		return err
	}
	defer to.Close()
	size, err := copyFrom(to, k.Initrd)
	if err != nil {
		return err
	}
	k.Initrd = with
	return addFile(to, size, finishKey, locked[0].Locked.Passphrase)
}

// addFile appends an archive with one file to an initrd of size bytes.
func addFile(to io.Writer, size int64, name, content string) error {
	if _, err := to.Write(make([]byte, -size&3)); err != nil { // archives begin at multiples of four
		return err
	}
	w := cpio.Newc.Writer(to)
	records := []cpio.Record{cpio.Directory(filepath.Dir(name)[1:], 0o700), cpio.StaticFile(name[1:], content, 0o400)}
	if err := cpio.WriteRecords(w, records); err != nil {
		return err
	}
	return cpio.WriteTrailer(w)
}
