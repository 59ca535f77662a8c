package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// vmwareTarball removes VMware's tools that its own installer put there, by the
// list that it kept: of the files in that list those that are VMware's by their
// place or name, and that are unchanged since as far as the list tells. What the
// installer had put aside for an unchanged file of its own is put back.
//
// What takes part in the system goes first: scripts, units, rules, settings,
// programs, and the links to them. The tools' own folders do nothing by
// themselves; they go too if they are small enough for the removal to be undone,
// and stay as a whole if not, with their uninstaller. Drivers for the kernel stay:
// its indexes name them. Folders stay, empty.
//
// The list is a guest's word: it names nothing that is not VMware's, whatever it
// says, links resolved. Where a package has brought the tools since, only
// vmwareToolsInert acts.
//
// Source: VMware's uninstaller, uninstall_file, uninstall_dir.
var vmwareTarball = fixer.Fixer{
	Name:    "linux/vmware-tools-tarball",
	Why:     "VMware's own installer left scripts, rules and settings that are for VMware alone",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		data, err := g.ReadFile(toolsListFile, guest.MaxText)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if p, ok := toolsPackage(in); ok {
			return []fixer.Concern{packagedSince(p)}, nil
		}
		t := tarball{view: g, list: parseLocations(data)}
		if err := t.plan(); err != nil {
			return nil, err
		}
		return t.concerns(), nil
	},
}

const (
	toolsListFile = "/etc/vmware-tools/locations"
	uninstaller   = "vmware-uninstall-tools.pl"
)

// Bounds on what is removed, since all of it is kept for undo.
const (
	maxRemoved      = 1000
	maxRemovedBytes = 24 << 20
)

// toolsFolders are the tools' own folders, below which everything is theirs.
var toolsFolders = regexp.MustCompile(`^(/etc/vmware-tools|/usr/lib(64)?/vmware-tools|/usr/share/doc/vmware-tools|/usr/local/lib(64)?/vmware-tools|/opt/vmware-tools)/`)

// toolsNames are names of VMware's in the system's folders.
var toolsNames = regexp.MustCompile(`^(/usr(/local)?)?/s?bin/(vmware-[\w.+-]+|vmtoolsd|vmhgfs-fuse|mount\.vmhgfs|thnuclnt)$` +
	`|^/etc/(rc\.d/)?(init\.d|rc[0-6S]\.d)/([SK]\d\d)?vmware-tools(-thinprint)?$` +
	`|^/etc/init/vmware-tools(-thinprint)?\.(conf|override)$` +
	`|^(/etc|(/usr)?/lib)/systemd/system/([\w@.-]+\.(wants|requires)/)?(vmware-[\w@.-]+|vmtoolsd)\.(service|mount)$` +
	`|^(/etc|(/usr)?/lib)/udev/rules\.d/\d\d-(vmware|thnuclnt)[\w.-]*\.rules$` +
	`|^/etc/(modprobe\.d|modules-load\.d|depmod\.d|ld\.so\.conf\.d)/vmware-[\w.-]+$` +
	`|^/etc/pam\.d/(vmtoolsd|vmware-[\w.-]+)$` +
	`|^/etc/(xdg/autostart|X11/xinit/xinitrc\.d|X11/Xsession\.d)/(\d+)?vmware-[\w.-]+$` +
	`|^/usr/share/(applications|man/man\d)/vmware-[\w.-]+$` +
	`|^/usr/lib(64)?/cups/(backend|filter)/(tpvmlp|tpvmgp|thnucups)$|^/etc/tpvmlp\.conf$`)

// tarball is the removal of one guest's tools.
type tarball struct {
	view    *guest.View
	list    toolsList
	removed []toolsFile
	changed []toolsFile // not what was installed
	foreign []string    // names of others, or of drivers for the kernel
	left    []toolsFile // too much for undo
	keep    string      // the uninstaller, where it stays
}

// toolsFile is a file of the list.
type toolsFile struct {
	name string // as listed
	at   string // with the links in its folder resolved
	info guest.Info
}

func (t *tarball) plan() error {
	var system, own []toolsFile
	var size int64
	for _, name := range t.list.files {
		f, err := t.standing(name)
		if err != nil {
			return err
		}
		switch {
		case f.at == "":
		case toolsFolders.MatchString(f.at):
			own = append(own, f)
			size += f.info.Size
		case toolsNames.MatchString(f.at):
			system = append(system, f)
		default:
			t.foreign = append(t.foreign, name)
		}
	}
	if len(own)+len(system) > maxRemoved || size > maxRemovedBytes/2 {
		t.left, own = own, nil
		system = slices.DeleteFunc(system, t.isUninstaller)
	}
	for _, step := range []func() error{
		t.restore,
		func() error { return t.remove(append(system, own...)) },
		t.removeLinks,
		t.forget,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tarball) isUninstaller(f toolsFile) bool {
	if path.Base(f.at) == uninstaller {
		t.keep = f.at
	}
	return t.keep == f.at
}

// standing finds a listed file; its place is "" when it is gone, is neither file
// nor link, or the name is none that a file can have.
func (t *tarball) standing(name string) (toolsFile, error) {
	long := func(part string) bool { return len(part) > 255 }
	if !path.IsAbs(name) || strings.ContainsRune(name, 0) || len(name) > 4095 || slices.ContainsFunc(strings.Split(name, "/"), long) {
		return toolsFile{}, nil
	}
	dir, err := t.view.Resolve(path.Dir(name))
	if err != nil {
		return toolsFile{}, nil // links in a circle lead to nothing of VMware's
	}
	at := path.Join(dir, path.Base(name))
	info, err := t.view.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode.IsRegular() && info.Mode&fs.ModeSymlink == 0 {
		return toolsFile{}, nil
	}
	return toolsFile{name, at, info}, err
}

// unchanged tells whether a file is what was installed, as far as the list tells.
func (t *tarball) unchanged(f toolsFile) bool {
	time, known := t.list.times[f.name]
	return !t.list.modified[f.name] && (!known || f.info.MTime.Unix() == time || f.info.Mode&fs.ModeSymlink != 0)
}

// restore puts back what the installer had put aside, where the file of its own
// is known to stand unchanged.
func (t *tarball) restore() error {
	for _, s := range t.list.saves() {
		f, err := t.standing(s.name)
		if err != nil {
			return err
		}
		backup, err := t.standing(s.backup)
		if err != nil {
			return err
		}
		_, timed := t.list.times[s.name]
		if f.at == "" || backup.at == "" || !timed || !t.unchanged(f) || !strings.HasPrefix(f.at, "/etc/") || path.Dir(f.at) != path.Dir(backup.at) {
			continue
		}
		old, err := t.view.ReadFile(backup.at, guest.MaxText)
		if err != nil {
			return err
		}
		if err := t.view.Write(f.at, old); err != nil {
			return err
		}
		if err := t.view.Remove(backup.at); err != nil {
			return err
		}
		t.removed = append(t.removed, f)
	}
	return nil
}

// remove removes files that are unchanged, as many as can be kept for undo.
func (t *tarball) remove(files []toolsFile) error {
	var size int64
	for _, f := range files {
		if !t.unchanged(f) {
			t.changed = append(t.changed, f)
			continue
		}
		if size += f.info.Size; f.info.Size > guest.MaxText || size > maxRemovedBytes || len(t.removed) >= maxRemoved {
			t.left = append(t.left, f)
			continue
		}
		if err := t.view.Remove(f.at); err != nil {
			return err
		}
		t.removed = append(t.removed, f)
	}
	return nil
}

var (
	startedFrom = regexp.MustCompile(`/(init\.d|systemd/system)/[^/]+$`)
	linkOrder   = regexp.MustCompile(`^[SK]\d\d`)
)

// removeLinks removes the links that would start a script or a unit that was
// removed: chkconfig, update-rc.d and systemctl made them, and no list names them.
func (t *tarball) removeLinks() error {
	var gone []string
	for _, f := range t.removed {
		if startedFrom.MatchString(f.at) {
			gone = append(gone, path.Base(f.at))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	dirs, err := startFolders(t.view)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		names, err := listed(t.view, dir, "")
		if err != nil {
			return err
		}
		for _, name := range names {
			if !slices.Contains(gone, linkOrder.ReplaceAllString(path.Base(name), "")) {
				continue
			}
			if info, err := t.view.Lstat(name); err != nil || info.Mode&fs.ModeSymlink == 0 {
				continue
			}
			if err := t.view.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// startFolders are the folders whose links start scripts and units, each once.
func startFolders(g *guest.View) ([]string, error) {
	var names []string
	for _, parent := range runLevels {
		for level := range 7 {
			names = append(names, fmt.Sprintf("%s/rc%d.d", parent, level))
		}
	}
	for _, suffix := range []string{".wants", ".requires"} {
		found, err := listed(g, ownUnits, suffix)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	var dirs []string
	for _, name := range names {
		dir, err := g.Resolve(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// forget enters into the list what was removed, as its uninstaller would, or
// removes the list with the last file.
func (t *tarball) forget() error {
	if len(t.removed) == 0 {
		return nil
	}
	if len(t.left) == 0 && t.keep == "" {
		return t.view.Remove(toolsListFile)
	}
	return t.view.Edit(toolsListFile, func(old []byte) ([]byte, error) {
		var lines []string
		for _, f := range t.removed {
			lines = append(lines, "remove_file "+f.name)
		}
		return appendLines(old, lines...), nil
	})
}
