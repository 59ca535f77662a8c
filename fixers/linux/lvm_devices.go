package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/lvm"
	"hyper2kvm/fixers/inspect"
)

// lvmDevices lets LVM find its physical volumes on KVM. A filter that would pass
// over one of them gets its name there in front of the list, and every other byte
// stays. A devices file names disks by what they say of themselves, which is
// something else on virtio; it is removed, and LVM then looks at all disks, as it
// does where the file never was. Only physical volumes under what the guest mounts
// count: others may be meant to stay hidden. An initrd's copies are the business of
// initrdDrivers.
//
// Source: lvm.conf(5), filter and global_filter; lvmdevices(8); LVM2
// lib/filters/filter-regex.c; virt-v2v convert_linux.ml, remap_block_devices, which
// removes the devices file too.
var lvmDevices = fixer.Fixer{
	Name:    "linux/lvm-devices",
	Why:     "LVM looks for its disks under names that do not exist on KVM, so what is on its volumes is never found",
	Vital:   true,
	Applies: func(in fixer.Input) bool { return onLinux(in) && len(neededMembers(in)) > 0 },
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		var concerns []fixer.Concern
		for _, file := range lvmConfigs {
			err := g.Edit("/"+file, func(old []byte) ([]byte, error) {
				now, more := passMembers(old, "/"+file, in)
				concerns = append(concerns, more...)
				return now, nil
			})
			if err != nil {
				return concerns, err
			}
		}
		more, err := dropDevicesFile(g, in)
		return append(concerns, more...), err
	},
}

// lvmConfigs are LVM's settings; what is in the last of them wins.
var lvmConfigs = []string{"etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"}

// neededMembers are the physical volumes of the groups on which something is that
// the guest mounts or swaps to: a group that lacks one is not activated at boot.
func neededMembers(in fixer.Input) []guest.Filesystem {
	var groups []string
	for _, v := range in.Facts.Topology.Volumes {
		if slices.ContainsFunc(in.Facts.Mounts, func(m inspect.Mount) bool { return m.Device == v.Name }) {
			groups = append(groups, v.Group)
		}
	}
	return slices.DeleteFunc(slices.Clone(in.Facts.Topology.Filesystems), func(f guest.Filesystem) bool {
		return f.Type != guest.LVMMember || !slices.Contains(groups, f.Group)
	})
}

// passMembers adds to the filters in a text what they lack.
func passMembers(old []byte, file string, in fixer.Input) ([]byte, []fixer.Concern) {
	settings, err := lvm.Settings(old)
	if err != nil {
		return old, []fixer.Concern{unknownFilter(file, err)}
	}
	slices.SortFunc(settings, func(a, b lvm.Setting) int { return b.Start - a.Start }) // the last first: places in front of it stay
	var concerns []fixer.Concern
	now := string(old)
	for _, s := range settings {
		if s.Name != "devices/filter" && s.Name != "devices/global_filter" {
			continue
		}
		lacks, err := lackOf(s.Values, in)
		if err != nil {
			concerns = append(concerns, unknownFilter(file, err))
			continue
		}
		now = now[:s.Start] + withPatterns(now[s.Start:s.End], lacks) + now[s.End:]
	}
	return []byte(now), concerns
}

// lackOf are the patterns that a filter lacks. A name that udev makes may be
// accepted where the kernel's is not; but LVM is asked for a disk while udev has
// not made it yet.
func lackOf(filter []string, in fixer.Input) ([]string, error) {
	patterns, err := parseFilter(filter)
	if err != nil {
		return nil, err
	}
	var lacks []string
	for _, m := range neededMembers(in) {
		name, ok := kvmName(m.Device)
		if ok && !patterns.pass("/dev/v"+name) {
			lacks = append(lacks, fmt.Sprintf(`"a|^/dev/[sv]%s$|"`, name))
		}
	}
	return lacks, nil
}

// withPatterns puts patterns in front of those of a filter: the first that matches
// decides.
func withPatterns(value string, patterns []string) string {
	if len(patterns) == 0 {
		return value
	}
	added := strings.Join(patterns, ", ")
	if rest, isList := strings.CutPrefix(value, "["); isList {
		return "[ " + added + "," + rest
	}
	return "[ " + added + ", " + value + " ]"
}

// kvmName is what a disk or partition of the topology is called on KVM behind
// "/dev/v", or "/dev/s" where the disk is not on virtio: da, db3.
func kvmName(device string) (string, bool) {
	m := topologyName.FindStringSubmatch(device)
	if m == nil {
		return "", false
	}
	return "d" + letters(m[1]) + m[2], true
}

// dropDevicesFile removes the list of devices that LVM keeps to, if it hides a
// physical volume on KVM.
func dropDevicesFile(g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
	var conf []byte
	for _, file := range lvmConfigs {
		data, err := g.ReadFile("/"+file, guest.MaxText)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		conf = append(append(conf, data...), '\n')
	}
	file, used := devicesFile(conf)
	if !used {
		return nil, nil
	}
	data, err := g.ReadFile("/"+file, guest.MaxText)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !hides(data, in) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []fixer.Concern{{
		Level: fixer.Info,
		Code:  "linux/lvm-devices-file",
		Text:  fmt.Sprintf("/%s names disks by what VMware's say of themselves and is removed: LVM will look at all disks", file),
		Try:   "run vgimportdevices --all in the guest on KVM, if LVM shall keep to a list of devices again",
	}}, g.Remove("/" + file)
}

// devicesFile is the file that LVM takes its devices from, and whether its settings
// let it. Those that cannot be read are LVM's defaults.
//
// Source: lvm.conf(5), use_devicesfile and devicesfile.
func devicesFile(conf []byte) (name string, used bool) {
	name, used = "etc/lvm/devices/system.devices", true
	settings, err := lvm.Settings(conf)
	if err != nil {
		return name, used
	}
	for _, s := range settings {
		if len(s.Values) != 1 {
			continue
		}
		switch value := s.Values[0]; s.Name {
		case "devices/use_devicesfile":
			used = value != "0"
		case "devices/devicesfile":
			name = path.Join("etc/lvm/devices", path.Base(value))
		}
	}
	return name, used
}

// hides tells whether a devices file lacks a physical volume on KVM: one that it
// does not list, or knows by what is gone. The serial number of a virtio disk is
// one that our libvirt XML gives.
//
// Source: lvmdevices(8), "Device ID"; LVM2 lib/device/device_id.c.
func hides(devices []byte, in fixer.Input) bool {
	return slices.ContainsFunc(neededMembers(in), func(m guest.Filesystem) bool {
		serial, _, known := serialOf(in, m.Device)
		return !known || !slices.ContainsFunc(splitLines(devices), func(line string) bool {
			entry := map[string]string{}
			for _, f := range fields(line) {
				key, value, _ := strings.Cut(f.of(line), "=")
				entry[key] = value
			}
			return entry["IDTYPE"] == "sys_serial" && entry["IDNAME"] == serial && entry["PVID"] == strings.ReplaceAll(m.UUID, "-", "")
		})
	})
}

func unknownFilter(file string, err error) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/lvm-filter-unknown",
		Text:  fmt.Sprintf("%s: whether LVM finds its disks on KVM could not be told: %v", file, err),
		Try:   "see that filter and global_filter let /dev/vda and its partitions pass, and plan again",
	}
}
