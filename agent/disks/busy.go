package disks

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mounted is one line of the kernel's list of mounts.
type mounted struct {
	dev    string // major:minor; that of no device for some file systems
	at     string
	source string
}

// mounts are all that this process sees.
//
// Source: proc_pid_mountinfo(5).
func (m Machine) mounts() (list []mounted, err error) {
	text, err := os.ReadFile(filepath.Join(m.Proc, "self", "mountinfo"))
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, about := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(about) < 2 {
			continue
		}
		list = append(list, mounted{fields[2], octal(fields[4]), octal(about[1])})
	}
	return list, lines.Err()
}

// octal undoes how the kernel writes blanks and backslashes.
func octal(text string) string {
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(text, `\`)
		b.WriteString(plain)
		if !found {
			return b.String()
		}
		n, err := strconv.ParseUint(rest[:min(3, len(rest))], 8, 8)
		if err != nil {
			b.WriteByte('\\')
			text = rest
			continue
		}
		b.WriteByte(byte(n))
		text = rest[3:]
	}
}

// users are the uses that the kernel tells of, by the names of whole disks: what is
// mounted elsewhere than among our storages, and swapped to.
func (m Machine) users() (map[string]string, error) {
	mounts, err := m.mounts()
	if err != nil {
		return nil, err
	}
	users := map[string]string{}
	for _, v := range mounts {
		if filepath.Dir(v.at) == m.Run {
			continue
		}
		for _, name := range m.beneath(m.named(v.dev, v.source)) {
			users[name] = "is mounted at " + v.at
		}
	}
	text, _ := os.ReadFile(filepath.Join(m.Proc, "swaps")) // a kernel without swap has none
	for line := range strings.Lines(string(text)) {
		source, _, _ := strings.Cut(line, " ")
		for _, name := range m.beneath(m.named("", octal(source))) {
			users[name] = "is swapped to"
		}
	}
	return users, nil
}

// named is the name of a block device by its number, or, where a file system has none of
// a device's, by its node; "" if it is neither.
func (m Machine) named(dev, source string) string {
	if path, err := filepath.EvalSymlinks(filepath.Join(m.Sys, "dev", "block", dev)); err == nil && dev != "" {
		return filepath.Base(path)
	}
	if !strings.HasPrefix(source, m.Dev+"/") {
		return ""
	}
	if path, err := filepath.EvalSymlinks(source); err == nil {
		source = path
	}
	return filepath.Base(source)
}

// depth bounds how many devices may lie on one another.
const depth = 16

// beneath are the whole disks that a block device lies on: itself, the disk of a
// partition, and what a dm or md is made of.
func (m Machine) beneath(name string) []string { return m.under(name, depth) }

func (m Machine) under(name string, left int) (list []string) {
	if name == "" || left == 0 {
		return nil
	}
	folder := filepath.Join(m.Sys, "block", name)
	if _, err := os.Stat(folder); err != nil {
		if whole := m.wholeOf(name); whole != "" {
			return m.under(whole, left-1)
		}
		return nil
	}
	slaves, _ := os.ReadDir(filepath.Join(folder, "slaves")) // most have none
	for _, s := range slaves {
		list = append(list, m.under(s.Name(), left-1)...)
	}
	return append(list, name)
}

// wholeOf is the disk that a partition is on.
func (m Machine) wholeOf(part string) string {
	found, _ := filepath.Glob(filepath.Join(m.Sys, "block", "*", part, "partition")) // whose only error is of the pattern
	if len(found) == 0 {
		return ""
	}
	return filepath.Base(filepath.Dir(filepath.Dir(found[0])))
}

// bootedFrom is the UUID of the partition that the firmware started the appliance from;
// "" if it does not say. An appliance that runs in memory uses it no more, and still
// needs it.
//
// Source: systemd.io/BOOT_LOADER_INTERFACE, LoaderDevicePartUUID.
func (m Machine) bootedFrom() string {
	const head = 4 // the attributes of an EFI variable
	text := read(filepath.Join(m.Sys, "firmware", "efi", "efivars", "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"))
	if len(text) < head {
		return ""
	}
	return strings.ToLower(string(bytes.ReplaceAll(text[head:], []byte{0}, nil))) // UTF-16 of ASCII
}
