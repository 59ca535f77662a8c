package inspect

import "slices"

// xbootldrGUID is the type of an extended boot loader partition: kernels that
// the EFI system partition has no room for.
//
// Source: uapi-group.org, "Discoverable Partitions Specification".
const xbootldrGUID = "bc13c2ff-59e6-4262-a352-b275fd6f7172"

// gptMounts are the boot partitions that systemd mounts by their types when
// fstab says nothing of them: the extended one at /boot, the EFI system
// partition at /efi, or where that folder is not there at /boot. A folder that
// holds anything is left alone, as systemd does.
//
// Source: systemd-gpt-auto-generator(8); src/gpt-auto-generator, add_partition_esp.
func (t *files) gptMounts(f Facts, mounts []Mount) []Mount {
	if !slices.ContainsFunc(systemdFolders, func(dir string) bool { return t.exists(dir + "/system-generators/systemd-gpt-auto-generator") }) {
		return nil
	}
	var found []Mount
	add := func(kind, dir string) {
		device := theOnly(f, kind)
		taken := func(m Mount) bool { return m.Device == device || m.Path == dir }
		if device == "" || slices.ContainsFunc(mounts, taken) || slices.ContainsFunc(found, taken) || !t.empty(dir) {
			return
		}
		fs, _ := f.Filesystem(device)
		found = append(found, Mount{Device: device, Path: dir, Spec: "PARTUUID=" + partUUID(f, device), Type: fs.Type,
			Options: "x-systemd.automount", Source: device + ": partition type " + kind})
	}
	add(xbootldrGUID, "/boot")
	esp := "/boot"
	if t.exists("/efi") {
		esp = "/efi"
	}
	add(espGUID, esp)
	return found
}

// empty tells a folder with nothing in it.
func (t *files) empty(dir string) bool {
	if !t.exists(dir) {
		return false
	}
	list, err := t.ReadDir(dir)
	return t.note(dir, err) && len(list) == 0
}

// theOnly is the one partition of a type on GPT disks; "" if there are more.
func theOnly(f Facts, kind string) string {
	device := ""
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			switch {
			case d.Table != "gpt" || p.Type != kind:
			case device != "":
				return ""
			default:
				device = p.Name
			}
		}
	}
	return device
}

func partUUID(f Facts, device string) string {
	for _, d := range f.Topology.Disks {
		for _, p := range d.Partitions {
			if p.Name == device {
				return p.UUID
			}
		}
	}
	return ""
}
