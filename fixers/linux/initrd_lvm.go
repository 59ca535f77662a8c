package linux

import (
	"bytes"
	"slices"
	"strings"

	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

// noDevicesFile are settings behind others, of which the last win. A file cannot be
// taken out of an initrd from outside, and an empty list of devices would be one of
// none.
const noDevicesFile = "\n# The devices file names disks that do not exist on KVM.\ndevices { use_devicesfile = 0 }\n"

// lvmFiles adds to override what becomes of LVM's settings in an initrd, which has
// the guest's as they were when it was made.
//
// Source: initramfs-tools hooks/lvm2, which copies /etc/lvm; dracut
// modules.d/90lvm/module-setup.sh.
func (p *initrdPlan) lvmFiles(k inspect.Kernel, rd *initrd.Initrd, override map[string][]byte) {
	var conf []byte
	last := lvmConfigs[0]
	for _, file := range lvmConfigs {
		old := current(rd, file, override)
		if old == nil { // it has none, and LVM its defaults
			continue
		}
		now, concerns := passMembers(old, k.Initrd+":/"+file, p.in)
		p.concerns = append(p.concerns, concerns...)
		if !bytes.Equal(old, now) {
			override[file] = now
		}
		conf, last = append(append(conf, now...), '\n'), file
	}
	file, used := devicesFile(conf)
	if list, err := rd.ReadFile(file); used && err == nil && hides(list, p.in) {
		override[last] = slices.Concat(current(rd, last, override), []byte(noDevicesFile))
	}
}

// mdadmFiles adds to override what becomes of mdadm's settings in an initrd.
//
// Source: initramfs-tools hooks/mdadm; dracut modules.d/90mdraid/module-setup.sh.
func (p *initrdPlan) mdadmFiles(k inspect.Kernel, rd *initrd.Initrd, override map[string][]byte) {
	for _, name := range inspect.MdadmConfigs {
		file := strings.TrimPrefix(name, "/")
		old := current(rd, file, override)
		now, concerns := anyDevices(old, k.Initrd+":"+name)
		p.concerns = append(p.concerns, concerns...)
		if !bytes.Equal(old, now) {
			override[file] = now
		}
	}
}

// current is what a file of an initrd will be, as far as it is known.
func current(rd *initrd.Initrd, file string, override map[string][]byte) []byte {
	if data, ok := override[file]; ok {
		return data
	}
	data, err := rd.ReadFile(file)
	if err != nil {
		return nil
	}
	return data
}
