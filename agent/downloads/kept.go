package downloads

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/durable"
)

// kept is the folder of the files that downloads are made of, and records that of what is
// known of each download.
func (k *Keeper) kept() string    { return filepath.Join(k.Folder, "kept") }
func (k *Keeper) records() string { return filepath.Join(k.Folder, "records") }

// partPrefix begins the names of files that are not whole.
const partPrefix = ".part-"

// keepFile keeps a file that is filled, whole or not at all, under its digest's name.
func (k *Keeper) keepFile(ending string, fill func(*os.File) error) (name string, err error) {
	f, err := os.CreateTemp(k.kept(), partPrefix+"*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	sum, err := filled(f, fill)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	name = sum[:32] + ending
	return name, durable.Rename(f.Name(), filepath.Join(k.kept(), name))
}

// filled is the digest of a file when all of it is on the disk.
func filled(f *os.File, fill func(*os.File) error) (sum string, err error) {
	if err := fill(f); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// room tells whether so many bytes can be kept.
func (k *Keeper) room(need int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(k.Folder, &s); err != nil {
		return err
	}
	if free := int64(s.Bavail) * s.Bsize; free < need {
		return fmt.Errorf("%w: that takes %d MiB for a while, and %d MiB are free: name an image in a storage as base, or give the appliance a larger disk", unix.ENOSPC, need>>20, free>>20)
	}
	return nil
}

// sweepKept removes what is kept for no download, and what was not finished. The OVA of
// the appliance as it runs stays, for the next ones.
func (k *Keeper) sweepKept(used map[string]bool) error {
	if hash, err := k.Machine.rootHash(); err == nil {
		used[fromKept+ownName(hash)] = true
	}
	entries, err := os.ReadDir(k.kept())
	for _, e := range entries {
		if !used[fromKept+e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(k.kept(), e.Name())))
		}
	}
	return err
}
