package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// ErrMissing is a program that this machine does not have.
var ErrMissing = errors.New("program is not installed")

// Program names an executable: what ships it and who needs it.
type Program struct {
	Name    string // as looked up in PATH
	Package string // Debian package that ships it
	Usage   string // who runs it, for what
	Build   bool   // only needed to build test guests, not to migrate
}

// Programs is every program that hyper2kvm runs. The appliance's package list,
// the set-up script and the start-up check are tested against it.
var Programs = []Program{
	{Name: "qemu-img", Package: "qemu-utils", Usage: "disk: create overlays, convert, check"},
	{Name: "qemu-nbd", Package: "qemu-utils", Usage: "disk: export a source disk read-only"},
	{Name: "qemu-storage-daemon", Package: "qemu-system-common", Usage: "disk: own the overlays"},
	{Name: "qemu-system-x86_64", Package: "qemu-system-x86", Usage: "accel, testers: start machines"},
	{Name: "blkid", Package: "util-linux", Usage: "fixers/guest: name file systems"},
}

// sbin is searched after PATH: ordinary users' PATH lacks it on Debian.
var sbin = []string{"/usr/local/sbin", "/usr/sbin", "/sbin"}

// Look returns the path of a program. A program that is absent gives an error
// that wraps ErrMissing and names the package to install; a name that is not in
// Programs is a mistake of the caller.
func Look(name string) (string, error) {
	i := slices.IndexFunc(Programs, func(p Program) bool { return p.Name == name })
	if i < 0 {
		return "", fmt.Errorf("%s is not in the table of programs", name)
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range sbin {
		path := dir + "/" + name
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w: install the package %s", name, ErrMissing, Programs[i].Package)
}
