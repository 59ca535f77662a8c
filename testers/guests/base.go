package guests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
)

// basePackages is what every guest has of the same release, firmware and initrd
// tool; its tar is cached, since unpacking it is ten times quicker than
// installing it.
func (r Recipe) basePackages() []string {
	all := []string{
		"e2fsprogs", "ifupdown", "iproute2", "iputils-ping", "kmod",
		"linux-image-amd64", "login", "procps", "systemd-sysv", "udev",
		tools[r.Initrd.Tool].program,
	}
	return slices.Sorted(slices.Values(append(all, loaderPackages[r.Firmware]...)))
}

var loaderPackages = map[machine.Firmware][]string{
	machine.BIOS: {"grub-pc"},
	machine.UEFI: {"efibootmgr", "grub-efi-amd64"},
}

// errNoMirror is an apt that cannot say where Debian is.
var errNoMirror = errors.New("apt knows no Debian mirror: run apt-get update")

// mirror is where the machine's own apt finds Debian.
type mirror struct {
	main, security string   // base addresses
	options        []string // apt.conf lines that reaching it takes
}

// hostMirror asks apt, so that no mirror stands in our code.
func hostMirror(ctx context.Context) (mirror, error) {
	index, err := proc.Run(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return mirror{}, err
	}
	config, err := proc.Run(ctx, "apt-config", "dump", "--no-empty")
	if err != nil {
		return mirror{}, err
	}
	m := parseMirror(string(index))
	m.options = parseOptions(string(config))
	if m.main == "" {
		return m, errNoMirror
	}
	return m, nil
}

// parseMirror reads apt-get indextargets: origin, label and address by tabs.
func parseMirror(index string) mirror {
	var m mirror
	for line := range strings.Lines(index) {
		field := strings.Split(strings.TrimSpace(line), "\t")
		if len(field) != 3 || field[0] != "Debian" {
			continue
		}
		switch field[1] {
		case "Debian":
			m.main = field[2]
		case "Debian-Security":
			m.security = field[2]
		}
	}
	return m
}

// parseOptions keeps what decides whether the mirror can be reached and is
// believed: proxies, and how old an index may be. apt-config(8) dump.
func parseOptions(config string) []string {
	var kept []string
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		proxy := strings.HasPrefix(line, "Acquire::http") && strings.Contains(line, "::Proxy ")
		if proxy || strings.HasPrefix(line, "Acquire::Check-") {
			kept = append(kept, strings.TrimSuffix(line, ";"))
		}
	}
	return kept
}

// sources is the sources.list of a guest.
func (m mirror) sources(release string) string {
	list := fmt.Sprintf("deb %s %s main\ndeb %[1]s %[2]s-updates main\n", m.main, release)
	if m.security != "" {
		list += fmt.Sprintf("deb %s %s-security main\n", m.security, release)
	}
	return list
}

// debootstrapArgs are the arguments that every run of mmdebstrap has. debs is a
// folder that keeps downloaded packages.
func debootstrapArgs(m mirror, debs string) []string {
	args := []string{
		"--mode=root", // the only mode that leaves a tree with true owners
		"--skip=download/empty,essential/unlink,cleanup/apt/cache", // keep packages in the cache
		`--aptopt=Acquire::Languages "none"`,
		`--aptopt=APT::Install-Recommends "false"`,
		`--aptopt=APT::Keep-Downloaded-Packages "true"`,
		"--dpkgopt=force-unsafe-io",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	}
	for _, option := range m.options {
		args = append(args, "--aptopt="+option)
	}
	return append(args,
		`--setup-hook=mkdir -p "$1/var/cache/apt/archives"`,
		fmt.Sprintf("--setup-hook=sync-in '%s' /var/cache/apt/archives", debs),
		fmt.Sprintf("--customize-hook=sync-out /var/cache/apt/archives '%s'", debs),
		`--customize-hook=find "$1/var/cache/apt/archives" -name '*.deb' -delete`,
	)
}

// baseArgs make the base of a release, its sources on standard input.
func baseArgs(r Recipe, m mirror, debs, tar string) []string {
	args := append(debootstrapArgs(m, debs), "--variant=minbase", "--format=tar",
		"--include="+strings.Join(r.basePackages(), ","))
	return append(args, r.Release, tar, "-")
}

// base returns the base tar of the guest's release, from the cache or new.
func (b *build) base(ctx context.Context) error {
	sum := sha256.Sum256([]byte(strings.Join(b.basePackages(), " ")))
	b.baseTar = filepath.Join(b.cache, "base-"+b.Release+"-"+hex.EncodeToString(sum[:6])+".tar")
	unlock, err := lock(ctx, b.baseTar+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(b.baseTar); err == nil {
		return nil
	}
	fresh := filepath.Join(b.dir, "base.tar")
	if err := b.debootstrap(ctx, baseArgs(b.Recipe, b.mirror, b.debs, fresh)); err != nil {
		return err
	}
	return os.Rename(fresh, b.baseTar)
}

// debootstrap runs mmdebstrap. Kernels make no initrd as they are installed:
// the guest's configuration is not there yet.
func (b *build) debootstrap(ctx context.Context, args []string) error {
	_, err := proc.Command{
		Name:  "mmdebstrap",
		Args:  args,
		Dir:   b.dir,
		Env:   []string{"INITRD=No", "TMPDIR=" + b.dir},
		Stdin: bytes.NewReader([]byte(b.mirror.sources(b.Release))),
	}.Run(ctx)
	return err
}
