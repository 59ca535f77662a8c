package inspect

import (
	"path"
	"strings"
)

// packages are the installed packages that could be read: name, version and
// the list that says so. Those of RPM are not: its database is binary.
type packages []pkg

type pkg struct{ name, version, source string }

const (
	dpkgStatus   = "/var/lib/dpkg/status"
	apkInstalled = "/lib/apk/db/installed"
	pacmanLocal  = "/var/lib/pacman/local"
)

// packages reads the package lists that are text.
func (t *files) packages() packages {
	var all packages
	if data, ok := t.read(dpkgStatus, maxList); ok {
		all = append(all, parseDpkg(string(data))...)
	}
	if data, ok := t.read(apkInstalled, maxList); ok {
		all = append(all, parseAPK(string(data))...)
	}
	for _, dir := range t.pacman() {
		all = append(all, parsePacman(dir))
	}
	return all
}

func (t *files) pacman() []string {
	if !t.exists(pacmanLocal) {
		return nil
	}
	list, err := t.ReadDir(pacmanLocal)
	if !t.note(pacmanLocal, err) {
		return nil
	}
	var dirs []string
	for _, info := range list {
		if info.Mode.IsDir() {
			dirs = append(dirs, info.Name)
		}
	}
	return dirs
}

// parseDpkg reads dpkg's status file: the packages that are unpacked.
func parseDpkg(text string) packages {
	var all packages
	for stanza := range strings.SplitSeq(text, "\n\n") {
		p := pkg{source: dpkgStatus}
		installed := false
		for line := range strings.SplitSeq(stanza, "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "Package":
				p.name = value
			case "Version":
				p.version = value
			case "Status":
				installed = !strings.HasSuffix(value, " not-installed") && !strings.HasSuffix(value, " config-files")
			}
		}
		if installed && p.name != "" {
			all = append(all, p)
		}
	}
	return all
}

// parseAPK reads apk's list: P: is the name, V: the version.
func parseAPK(text string) packages {
	var all packages
	for stanza := range strings.SplitSeq(text, "\n\n") {
		p := pkg{source: apkInstalled}
		for line := range strings.SplitSeq(stanza, "\n") {
			if v, ok := strings.CutPrefix(line, "P:"); ok {
				p.name = v
			}
			if v, ok := strings.CutPrefix(line, "V:"); ok {
				p.version = v
			}
		}
		if p.name != "" {
			all = append(all, p)
		}
	}
	return all
}

// parsePacman splits the name of a package's folder: name-version-release.
func parsePacman(dir string) pkg {
	p := pkg{name: dir, source: path.Join(pacmanLocal, dir)}
	for range 2 {
		if i := strings.LastIndexByte(p.name, '-'); i > 0 {
			p.name, p.version = p.name[:i], strings.TrimSuffix(p.name[i+1:]+"-"+p.version, "-")
		}
	}
	return p
}

// version is an installed package's version, or "".
func (all packages) version(name string) string {
	for _, p := range all {
		if p.name == name {
			return p.version
		}
	}
	return ""
}

// rpm tells whether the guest has an RPM database, which is not read.
func (t *files) rpm() string {
	return t.first("/usr/lib/sysimage/rpm", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db")
}
