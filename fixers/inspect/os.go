package inspect

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// releases are the files that name a Linux distribution, the best first.
//
// Source: os-release(5); the distributions' release packages.
var releases = []struct {
	file string
	read func(*OS, []string)
}{
	{"/etc/os-release", osRelease},
	{"/usr/lib/os-release", osRelease},
	{"/etc/redhat-release", redhatRelease},
	{"/etc/centos-release", redhatRelease},
	{"/etc/SuSE-release", suseRelease},
	{"/etc/lsb-release", lsbRelease},
	{"/etc/debian_version", plain("debian", "Debian GNU/Linux")},
	{"/etc/alpine-release", plain("alpine", "Alpine Linux")},
	{"/etc/arch-release", plain("arch", "Arch Linux")},
	{"/etc/gentoo-release", plain("gentoo", "Gentoo")},
}

// linuxOS reads what the distribution says of itself, and what its programs say.
func (t *files) linuxOS() OS {
	o := OS{Family: Linux}
	for _, r := range releases {
		data, ok := t.read(r.file, maxConfig)
		if !ok {
			continue
		}
		r.read(&o, splitLines(data))
		o.Source = r.file
		break
	}
	o.Arch = t.arch()
	o.Systemd = t.systemd()
	o.Hostname = t.hostname()
	o.MachineID = t.machineID()
	return o
}

func osRelease(o *OS, lines []string) {
	for _, l := range lines {
		switch key, value, _ := assignment(l); key {
		case "ID":
			o.Distro = value
		case "VERSION_ID":
			o.Version = value
		case "PRETTY_NAME":
			o.Name = value
		case "NAME":
			if o.Name == "" {
				o.Name = value
			}
		}
	}
}

func lsbRelease(o *OS, lines []string) {
	for _, l := range lines {
		switch key, value, _ := assignment(l); key {
		case "DISTRIB_ID":
			o.Distro = strings.ToLower(value)
		case "DISTRIB_RELEASE":
			o.Version = value
		case "DISTRIB_DESCRIPTION":
			o.Name = value
		}
	}
}

// redhatNames tells the family's distributions by the beginning of their names.
var redhatNames = []struct{ prefix, id string }{
	{"CentOS", "centos"}, {"Red Hat", "rhel"}, {"Fedora", "fedora"}, {"Scientific", "scientific"},
	{"Oracle", "ol"}, {"Enterprise Linux", "ol"}, {"Rocky", "rocky"}, {"AlmaLinux", "almalinux"}, {"Amazon", "amzn"},
}

var dotted = regexp.MustCompile(`\d+(\.\d+)*`)

func redhatRelease(o *OS, lines []string) {
	o.Name = strings.TrimSpace(lines[0])
	o.Version = dotted.FindString(o.Name)
	o.Distro = "redhat"
	for _, n := range redhatNames {
		if strings.HasPrefix(o.Name, n.prefix) {
			o.Distro = n.id
			return
		}
	}
}

// suseRelease reads SuSE-release: the name, then VERSION = and PATCHLEVEL =.
func suseRelease(o *OS, lines []string) {
	o.Name = strings.TrimSpace(lines[0])
	o.Distro = "opensuse"
	if strings.Contains(o.Name, "Enterprise") {
		o.Distro = "sles"
	}
	patch := ""
	for _, l := range lines[1:] {
		key, value, _ := strings.Cut(l, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "VERSION":
			o.Version = value
		case "PATCHLEVEL":
			patch = value
		}
	}
	if patch != "" && patch != "0" {
		o.Version += "." + patch
	}
}

// plain reads a file that holds the version alone, or nothing.
func plain(id, name string) func(*OS, []string) {
	return func(o *OS, lines []string) {
		o.Distro, o.Version = id, strings.TrimSpace(lines[0])
		o.Name = strings.TrimSpace(name + " " + o.Version)
	}
}

// arch reads the machine that the guest's shell was made for from its ELF
// header; Debian's name for it, or "".
func (t *files) arch() string {
	for _, name := range []string{"/bin/sh", "/sbin/init", "/usr/bin/env"} {
		if !t.exists(name) {
			continue
		}
		if data, ok := t.read(name, maxList); ok {
			if a := elfArch(data); a != "" {
				return a
			}
		}
	}
	return ""
}

var arches = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_386: "i386", elf.EM_AARCH64: "arm64", elf.EM_ARM: "armhf",
	elf.EM_PPC64: "ppc64el", elf.EM_S390: "s390x", elf.EM_RISCV: "riscv64",
}

// elfArch reads e_machine, which is at the same place in both classes.
func elfArch(data []byte) string {
	if len(data) < 20 || string(data[:4]) != elf.ELFMAG {
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(data[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return arches[elf.Machine(order.Uint16(data[18:]))]
}

// systemdFolders are where distributions keep systemd's private library.
var systemdFolders = []string{"/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd", "/lib64/systemd", "/usr/lib/*-linux-gnu*/systemd", "/lib/*-linux-gnu*/systemd"}

// systemd reads systemd's version off the name of its private library, which
// there is since version 231.
func (t *files) systemd() int {
	for _, dir := range systemdFolders {
		for _, lib := range t.glob(dir + "/libsystemd-shared-*.so") {
			return leadingNumber(strings.TrimPrefix(path.Base(lib), "libsystemd-shared-"))
		}
	}
	return 0
}

// leadingNumber is the number that a version begins with, or 0.
func leadingNumber(s string) int {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > 99999 {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func (t *files) hostname() string {
	for _, file := range []string{"/etc/hostname", "/etc/HOSTNAME"} {
		for _, l := range t.lines(file) {
			if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
				return l
			}
		}
	}
	for _, file := range []string{"/etc/sysconfig/network", "/etc/conf.d/hostname"} {
		for _, l := range t.lines(file) {
			if key, value, ok := assignment(l); ok && strings.EqualFold(key, "HOSTNAME") {
				return value
			}
		}
	}
	return ""
}

// machineIDs are 32 hexadecimal digits; a file that is empty or says
// "uninitialized" is of a guest that has none yet. Source: machine-id(5).
var machineIDs = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (t *files) machineID() string {
	for _, l := range t.lines("/etc/machine-id") {
		if l = strings.TrimSpace(l); machineIDs.MatchString(l) {
			return l
		}
	}
	return ""
}

// init finds out what process 1 is.
func (t *files) init() Found {
	at := t.first("/sbin/init", "/usr/sbin/init", "/init")
	if at == "" {
		if p := t.first("/usr/lib/systemd/systemd", "/lib/systemd/systemd"); p != "" {
			return Found{"systemd", p}
		}
		return Found{}
	}
	end := t.resolve(at)
	source := at
	if end != at {
		source = fmt.Sprintf("%s -> %s", at, end)
	}
	switch base := path.Base(end); base {
	case "systemd", "runit-init", "openrc-init", "upstart":
		return Found{strings.TrimSuffix(base, "-init"), source}
	}
	for _, sign := range []struct{ name, file string }{
		{"openrc", "/sbin/openrc"}, {"openrc", "/usr/sbin/openrc"}, {"upstart", "/sbin/initctl"}, {"sysvinit", "/etc/inittab"},
	} {
		if t.exists(sign.file) {
			return Found{sign.name, source + ", " + sign.file}
		}
	}
	return Found{path.Base(end), source}
}

// selinux reads how SELinux is set. Without a policy, or when the kernel's
// command line says so, it is disabled whatever is configured.
func (t *files) selinux(kernels []Kernel) Found {
	const config = "/etc/selinux/config"
	var f Found
	kind := "targeted"
	for i, l := range t.lines(config) {
		switch key, value, _ := assignment(l); key {
		case "SELINUX":
			f = Found{strings.ToLower(value), fmt.Sprintf("%s:%d", config, i+1)}
		case "SELINUXTYPE":
			kind = value
		}
	}
	if f.Value == "" {
		return Found{}
	}
	if dir := path.Join("/etc/selinux", path.Base(kind), "policy"); len(t.glob(dir+"/policy.*")) == 0 {
		return Found{"disabled", f.Source + ", no policy in " + dir}
	}
	for _, k := range kernels {
		if k.Default && hasWord(k.Options, "selinux=0") {
			return Found{"disabled", k.Source + ": selinux=0"}
		}
	}
	return f
}

func hasWord(s, word string) bool {
	for w := range strings.FieldsSeq(s) {
		if w == word {
			return true
		}
	}
	return false
}
