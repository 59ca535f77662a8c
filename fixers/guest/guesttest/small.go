package guesttest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// SmallPrograms are those that Small runs.
var SmallPrograms = []string{"mke2fs", "sfdisk"}

// SmallFstab is Small's, with a name of VMware's.
const SmallFstab = "# made by the installer\n/dev/sda1\t/\text4\tdefaults 0 1\n"

// Small makes a disk with just enough of a guest to be migrated: a file system with a
// system's name and an fstab.
func Small(ctx context.Context, raw, fstab string) (err error) {
	tree, err := os.MkdirTemp("", "tree")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	for name, text := range map[string]string{
		"etc/os-release":       "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n",
		"etc/hostname":         "small\n",
		"etc/fstab":            fstab,
		"sbin/init":            "#!",
		"lib/modules/6.1/here": "",
	} {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if err := errors.Join(os.WriteFile(raw, nil, 0o600), os.Truncate(raw, 32<<20)); err != nil {
		return err
	}
	for _, c := range []proc.Command{
		{Name: "sfdisk", Args: []string{"-q", raw}, Stdin: strings.NewReader("label: dos\n2048,,83\n")},
		{Name: "mke2fs", Args: []string{"-q", "-t", "ext4", "-U", "6c1c6a32-5a5c-4a52-8d68-0a5f2f5b7f11", "-d", tree, "-E", "offset=1048576", raw, "31m"}},
	} {
		if _, err := c.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}
