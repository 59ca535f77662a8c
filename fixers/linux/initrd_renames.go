package linux

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

// maxFindings bounds the names renamed in one file; no generator writes as many.
const maxFindings = 1000

// renames adds to override what becomes of the files with unstable names.
func (p *initrdPlan) renames(k inspect.Kernel, rd *initrd.Initrd, override map[string][]byte) {
	byFile := map[string][]initrd.Finding{}
	for _, f := range rd.UnstableNames() {
		byFile[f.Path] = append(byFile[f.Path], f)
	}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		if _, done := override[file]; done || strings.HasPrefix(file, "etc/lvm/") { // lvmFiles knows the latter
			continue
		}
		if len(byFile[file]) > maxFindings {
			p.concerns = append(p.concerns, bakedIn(k, file, byFile[file][0].Name))
			continue
		}
		if isUnit(file) {
			// An empty unit is a masked one: what wants it goes on without.
			override["etc/systemd/system/"+path.Base(file)] = nil
			continue
		}
		old, err := rd.ReadFile(file)
		if err != nil {
			continue // only its name tells of a device
		}
		now, left := p.rename(file, old, byFile[file])
		if !bytes.Equal(old, now) {
			override[file] = now
		}
		for _, name := range left {
			p.concerns = append(p.concerns, bakedIn(k, file, name))
		}
	}
}

// copies adds to override what became of the guest's files of which the initrd
// has a true copy: a fixer before this one may have edited LVM's list of devices,
// or settings of modprobe.
func (p *initrdPlan) copies(rd *initrd.Initrd, override map[string][]byte) error {
	for _, c := range p.view.Changes() {
		file := strings.TrimPrefix(c.Path, "/")
		old, err := rd.ReadFile(file)
		if err != nil || c.Before.Kind != guest.File {
			continue
		}
		if sum := sha256.Sum256(old); c.Before.SHA256 != hex.EncodeToString(sum[:]) {
			continue
		}
		now, err := p.view.ReadFile(c.Path, guest.MaxText)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an initrd cannot lose a file; the copy stays as it is
		}
		if err != nil {
			return err
		}
		override[file] = now
	}
	return nil
}

// copied are folders of which generators put copies into the initrd, where they
// decide whether the root is found.
var copied = []string{"/etc/modprobe.d/", "/etc/modprobe.conf", "/etc/lvm/"}

// mayHaveCopies tells whether an initrd that is ready may have a copy of an
// edited file.
func (p *initrdPlan) mayHaveCopies() bool {
	return slices.ContainsFunc(p.view.Changes(), func(c guest.Change) bool {
		return slices.ContainsFunc(copied, func(folder string) bool { return strings.HasPrefix(c.Path, folder) })
	})
}

// isUnit tells systemd's unit of a device, and links to it in wants folders.
func isUnit(file string) bool {
	return strings.Contains(file, "systemd/system/") && strings.HasSuffix(file, ".device")
}

// rename renames the devices in a file of an initrd. It returns the names that
// are left.
func (p *initrdPlan) rename(file string, old []byte, found []initrd.Finding) (now []byte, left []string) {
	switch path.Base(file) {
	case "fstab", "fstab.sys":
		now, _ = renameFstab(old, p.in)
	case "crypttab":
		now, _ = renameCrypttab(old, p.in)
	default:
		now, _ = renameResume(old, p.in)
		now = p.renameText(now, found)
	}
	for _, f := range found {
		if f.Line > 0 && !slices.Contains(left, f.Name) && replaceName(string(now), f.Name, "") != string(now) {
			left = append(left, f.Name)
		}
	}
	if len(left) > 0 && isWait(file) {
		return []byte("true\n"), nil // it waits for a device that never comes
	}
	return now, left
}

// isWait tells dracut's hooks about one device: initqueue/finished/devexists-…
// waits for it, emergency/80-… says that it did not come.
//
// Source: dracut modules.d/99base/dracut-dev-lib.sh, wait_for_dev.
func isWait(file string) bool {
	return strings.Contains(file, "hooks/") && strings.Contains(path.Base(file), `\x2fdev\x2f`)
}

// renameText renames devices in settings of any form: kernel arguments by UUID,
// other places, which are shell, by the link that udev makes.
func (p *initrdPlan) renameText(text []byte, found []initrd.Finding) []byte {
	lines := splitLines(text)
	for _, f := range found {
		if f.Line == 0 || f.Line > len(lines) {
			continue
		}
		line, _ := renameIn(lines[f.Line-1], "", naming(p.in, true))
		if name, ok := stableName(p.in, f.Name); ok && unstable(f.Name) {
			line = replaceName(line, f.Name, linkOf(name))
		}
		lines[f.Line-1] = line
	}
	return joinLines(lines)
}

// replaceName replaces a device name where it is not the start of a longer one.
func replaceName(text, name, by string) string {
	var out strings.Builder
	for {
		i := strings.Index(text, name)
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}
		rest := text[i+len(name):]
		out.WriteString(text[:i])
		if rest != "" && isNamePart(rest[0]) {
			out.WriteString(name)
		} else {
			out.WriteString(by)
		}
		text = rest
	}
}

func isNamePart(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.:+", c) >= 0
}
