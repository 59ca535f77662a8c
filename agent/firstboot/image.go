package firstboot

import (
	"errors"
	"os"
	"path/filepath"

	storage "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"hyper2kvm/pipeline/proc"
)

// writeISO makes an ISO 9660 image, with the names of Rock Ridge and Joliet.
func writeISO(f *os.File, s Seed) (err error) {
	scratch, err := proc.PrivateDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	for name, text := range s {
		if err := os.WriteFile(filepath.Join(scratch, name), text, 0o600); err != nil {
			return err
		}
	}
	image, err := iso9660.Create(storage.New(f, false), 0, 0, isoSector, scratch)
	if err != nil {
		return err
	}
	return image.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, VolumeIdentifier: SeedLabel})
}

// fatSize has room for all files at their largest, bytes.
const fatSize = 4 << 20

// writeFAT makes a FAT file system without a partition table. go-diskfs marks a cluster
// as used that it does not use, of which fsck.fat tells; it does no harm.
func writeFAT(f *os.File, s Seed) error {
	if err := f.Truncate(fatSize); err != nil {
		return err
	}
	image, err := fat12.Create(storage.New(f, false), fatSize, 0, 512, SeedLabel[:fatLabelSize], false)
	if err != nil {
		return err
	}
	for name, text := range s {
		to, err := image.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		_, err = to.Write(text)
		if err := errors.Join(err, to.Close()); err != nil {
			return err
		}
	}
	return nil
}
