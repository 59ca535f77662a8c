package guests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// packages are what the guest has beyond its base.
func (r Recipe) packages() []string {
	return slices.Concat(r.Packages, networks[r.Network].packages)
}

// rootArgs unpack a base, add the guest's packages and files, and let the guest
// make its own initrds. The scratch folder gives the files and debconf's answers.
func rootArgs(r Recipe, m mirror, debs, base, scratch string) []string {
	args := debootstrapArgs(m, debs)
	args = append(args,
		"--variant=custom", "--format=directory", "--skip=check/empty",
		fmt.Sprintf("--setup-hook=tar --xattrs --xattrs-include='*' -C \"$1\" -xf '%s'", base),
		"--include="+strings.Join(r.packages(), ","),
		fmt.Sprintf(`--customize-hook=tar -C "$1" -xf '%s/overlay.tar'`, scratch),
		fmt.Sprintf(`--customize-hook=chroot "$1" debconf-set-selections < '%s/debconf'`, scratch),
		fmt.Sprintf(`--customize-hook=chroot "$1" sh -euc '%s'`, tools[r.Initrd.Tool].make(r)),
		`--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap`,
		`--customize-hook=find "$1/var/log" -type f -delete; rm -f "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old; : > "$1/etc/machine-id"`,
	)
	return append(args, r.Release, filepath.Join(scratch, "root"), "-")
}

// root makes the tree of the guest's files.
func (b *build) root(ctx context.Context) error {
	files, err := overlay(b.files())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "overlay.tar"), files, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "debconf"), []byte(b.debconf()), 0o600); err != nil {
		return err
	}
	return b.debootstrap(ctx, rootArgs(b.Recipe, b.mirror, b.debs, b.baseTar, b.dir))
}

func (b *build) tree() string { return filepath.Join(b.dir, "root") }
