package linux

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
		if now, ok := p.editedCopy(file, old); ok {
			override[file] = now
			continue
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

// editedCopy is what a fixer before this one made of the guest's file of which
// the initrd has a copy, as of LVM's list of devices.
func (p *initrdPlan) editedCopy(file string, old []byte) ([]byte, bool) {
	at, err := p.view.Resolve("/" + file)
	if err != nil {
		return nil, false
	}
	sum := sha256.Sum256(old)
	edited := slices.ContainsFunc(p.view.Changes(), func(c guest.Change) bool {
		return c.Path == at && c.Before.Kind == guest.File && c.Before.SHA256 == hex.EncodeToString(sum[:])
	})
	if !edited {
		return nil, false
	}
	now, err := p.view.ReadFile(at, guest.MaxText)
	return now, err == nil
}

// isUnit tells systemd's unit of a device, and links to it in wants folders.
func isUnit(file string) bool {
	return strings.Contains(file, "systemd/system/") && strings.HasSuffix(file, ".device")
}

// rename renames the devices in a file of an initrd. It returns the names that
// are left.
func (p *initrdPlan) rename(file string, old []byte, found []initrd.Finding) (now []byte, left []string) {
	switch path.Base(file) {
	case "fstab":
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
