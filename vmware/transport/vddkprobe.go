package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/proc"
)

// VDDKLibrary is VMware's library as nbdkit's plugin loaded it.
type VDDKLibrary struct {
	Folder  string   // with lib64 in it
	Version string   // as exact as its file's name tells: 8 or 8.0.3
	Modes   []string // of transport that it has
	Mapped  bool     // it tells what of a disk was ever written
	Plugin  string   // nbdkit's plugin's version
}

// probeWait is how long a library may take to load.
const probeWait = time.Minute

// distrib is the folder that all of VMware's archive is in.
const distrib = "vmware-vix-disklib-distrib"

// ProbeVDDK has nbdkit's plugin load the library, and tells what it is. ErrUnusable says
// what is missing, and how to mend it.
func ProbeVDDK(ctx context.Context, a Access) (VDDKLibrary, error) {
	folder, err := vddkFolder(a.VDDK)
	if err != nil {
		return VDDKLibrary{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeWait, fmt.Errorf("VMware's library did not load within %v", probeWait))
	defer cancel()
	out, err := proc.Run(ctx, "nbdkit", probeArgs(a, folder)...)
	if err != nil {
		return VDDKLibrary{}, fmt.Errorf("%w by VDDK: %w", ErrUnusable, explained(ctx, err))
	}
	l := parseProbe(string(out))
	l.Folder = folder
	if l.Version == "" {
		return l, fmt.Errorf("%w by VDDK: the library in %s does not load: %w", ErrUnusable, folder, whyNot(ctx, a, folder))
	}
	return l, nil
}

// vddkFolder is where the library is in a folder that an operator named: in it, or in
// the one that VMware's archive unpacks into.
func vddkFolder(named string) (string, error) {
	folder, err := filepath.EvalSymlinks(named)
	if err != nil {
		return "", fmt.Errorf("%w by VDDK: %w: upload VMware's library once more", ErrUnusable, err)
	}
	if _, err := os.Stat(filepath.Join(folder, distrib)); err == nil {
		folder = filepath.Join(folder, distrib)
	}
	list, err := filepath.Glob(filepath.Join(folder, "lib64", "libvixDiskLib.so.*"))
	if err != nil || len(list) == 0 {
		return "", fmt.Errorf("%w by VDDK: %s has no lib64/libvixDiskLib.so.N: upload VMware-vix-disklib-VERSION.x86_64.tar.gz", ErrUnusable, named)
	}
	return folder, loadable(list)
}

// majors are the versions that the plugin looks for by name.
// Source: nbdkit, plugins/vddk/vddk.c, load_library.
var majors = []string{"6", "7", "8"}

var libraryName = regexp.MustCompile(`/libvixDiskLib\.so\.(([0-9]+)(?:\.[0-9]+)*)$`)

// loadable tells whether the plugin looks for one of the files.
func loadable(list []string) error {
	var versions []string
	for _, name := range list {
		if m := libraryName.FindStringSubmatch(name); m != nil {
			versions = append(versions, m[1])
			if slices.Contains(majors, m[2]) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w by VDDK: nbdkit's plugin loads versions 6.5 to 8 of VMware's library, and this is %s: upload another", ErrUnusable, strings.Join(versions, ", "))
}

// parseProbe reads what nbdkit tells of the plugin. It tells all twice where it was
// started once more. Source: nbdkit-vddk-plugin(1), "DUMP-PLUGIN OUTPUT".
func parseProbe(out string) (l VDDKLibrary) {
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "version":
			l.Plugin = value
		case "vddk_library_version":
			l.Version = value
		case "vddk_dll": // with links resolved, and so VMware's name of the file
			if m := libraryName.FindStringSubmatch(value); m != nil && strings.HasPrefix(m[1], l.Version) {
				l.Version = m[1]
			}
		case "vddk_transport_modes":
			l.Modes = strings.FieldsFunc(value, func(r rune) bool { return r == ':' })
		case "VixDiskLib_QueryAllocatedBlocks":
			l.Mapped = value == "1"
		}
	}
	return l
}

// whyNot is why a library does not load.
func whyNot(ctx context.Context, a Access, folder string) (err error) {
	dir, err := proc.PrivateDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	_, err = proc.Run(ctx, "nbdkit", loadArgs(a, folder, dir)...)
	if err == nil {
		return errors.New("it did at a second try")
	}
	return explained(ctx, err)
}

// explained is the error of an nbdkit in words for people, if they are known.
func explained(ctx context.Context, err error) error {
	failed, ok := errors.AsType[*proc.Error](err)
	if !ok || ctx.Err() != nil {
		return err
	}
	if sentence := vddkSentence(failed.Stderr); sentence != "" {
		return errors.New(sentence)
	}
	return err
}
