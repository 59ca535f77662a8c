package initrd

import (
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Finding is a device name in an initrd that means another disk, or none, on
// other hardware.
type Finding struct {
	Path string // of the file, resolved
	Line int    // from 1; 0 when its name, or its folder's, holds it
	Text string // the line, without space around it
	Name string // the device name
}

// unstable matches names that hang on the bus or the maker of a disk: controller
// paths, kernel names, multipath's and udev's names for VMware's disks, whose
// NAA identifiers begin with 6000c29 (VMware's OUI, 00:0c:29).
var unstable = regexp.MustCompile(`/dev/disk/by-path/[^\s"',;]+` +
	`|/dev/disk/by-id/[^\s"',;]*(VMware|6000c29)[^\s"',;]*` +
	`|/dev/mapper/36000c29[0-9a-f]*` +
	`|/dev/(sd[a-z]+[0-9]*|hd[a-z][0-9]*|xvd[a-z]+[0-9]*|nvme[0-9]+n[0-9]+(p[0-9]+)?|cciss/c[0-9]+d[0-9]+(p[0-9]+)?)\b` +
	`|\b(naa\.|eui\.|0x|3)6000c29[0-9a-f]{25}\b`)

// unitSuffix matches the type of a unit, and of a folder of its settings.
var unitSuffix = regexp.MustCompile(`\.(device|swap|mount|automount)(\.[a-z]+)?$`)

// escaped matches what systemd and dracut write for a character in file names.
var escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`)

// backups are LVM's, which nothing reads during a boot.
var backups = regexp.MustCompile(`^etc/lvm/(archive|backup)/`)

// UnstableNames lists unstable device names in the configuration of an initrd
// and in the names of its units and hooks. Comments do not count, nor do backups.
func (i *Initrd) UnstableNames() []Finding {
	var found []Finding
	i.tree.below("", func(file string, n *node) {
		if backups.MatchString(file) || !configuration.MatchString(file) && !unitDir.MatchString(file) {
			return
		}
		for _, part := range []string{path.Base(path.Dir(file)), path.Base(file)} {
			if name := unstable.FindString(unescape(strings.TrimSuffix(part, ".sh"))); name != "" {
				found = append(found, Finding{Path: file, Text: part, Name: name})
			}
		}
		if configuration.MatchString(file) && n.regular() && n.kept {
			found = append(found, scan(file, n.data)...)
		}
	})
	return found
}

// unitDir matches the files of units, whose names hold devices.
var unitDir = regexp.MustCompile(`^((usr/)?lib|etc)/systemd/system/`)

func scan(file string, data []byte) []Finding {
	var found []Finding
	line := 0
	for text := range strings.Lines(string(data)) {
		line++
		text = strings.TrimSpace(text)
		if strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";") {
			continue
		}
		for _, name := range unstable.FindAllString(text, -1) {
			found = append(found, Finding{Path: file, Line: line, Text: text, Name: name})
		}
	}
	return found
}

// unescape turns a unit's or hook's name into the device path in it:
// dev-disk-by\x2dpath-X.device and devexists-\x2fdev\x2fsda1.sh.
func unescape(base string) string {
	if strings.HasPrefix(base, "dev-") {
		base = "/" + strings.ReplaceAll(unitSuffix.ReplaceAllString(base, ""), "-", "/")
	}
	return escaped.ReplaceAllStringFunc(base, func(s string) string {
		c, err := strconv.ParseUint(s[2:], 16, 8)
		if err != nil {
			return s
		}
		return string(rune(c))
	})
}
