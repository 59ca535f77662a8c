package spec_test

import (
	"strings"
	"testing"

	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

func TestWhatIsWrongIsToldWhereAndHow(t *testing.T) {
	for text, want := range map[string]string{
		"{}": `f:1: lacks source`,
		"source: {storage: vmware}\ntarget: {storage: kvm}":                                                                              `f:1: source: lacks path: in the storage, without a slash at its start`,
		"source: {}\ntarget: {storage: kvm}":                                                                                             `f:1: source: is empty: write storage and path of a file, disk with the ID of an attached one, or vsphere with server and vm`,
		"source: {path: a}\ntarget: {storage: kvm}":                                                                                      `f:1: source: lacks storage: a storage's name`,
		"source: {vsphere: {server: vc1}}\ntarget: {storage: kvm}":                                                                       `f:1: source.vsphere: lacks vm: `,
		"source: {disk: wwn-0x1, path: a}\ntarget: {storage: kvm}":                                                                       `f:1: source: is a disk, and a file or a VM: write one of them`,
		"source: {disk: wwn-0x1, disks: [wwn-0x2]}\ntarget: {storage: kvm}":                                                              `f:1: source.disks: is there beside disk: write one of them`,
		"source: {disks: [wwn-0x1, wwn-0x1]}\ntarget: {storage: kvm}":                                                                    `f:1: source.disks[1]: is there twice`,
		"source: {disk: ../sda}\ntarget: {storage: kvm}":                                                                                 `f:1: source.disk: is "../sda": write this: an attached disk's ID, `,
		"source: {disk: wwn-0x1}\ntarget: {storage: kvm, disk: wwn-0x1}":                                                                 `f:2: target: is the source, which is never written: wwn-0x1`,
		"source: {disk: wwn-0x1}\ntarget: {storage: kvm, disk: wwn-0x2, format: vmdk}":                                                   `f:2: target.format: is of files: what goes to a disk is there as it is`,
		"source: {path: a, vsphere: {server: vc1, vm: a}}\ntarget: {storage: kvm}":                                                       `f:1: source: is a file and a VM: write storage and path, or vsphere`,
		"source:\n  vsphere: {server: vc1, vm: a, transports: [smoke]}\ntarget: {storage: kvm}":                                          `f:2: source.vsphere.transports[0]: is "smoke": write `,
		"source: {storage: vmware, path: a}\ntarget:\n  storage: kvm\n  networks: {a: 'bridge:'}":                                        `f:4: target.networks: has "bridge:" for "a": write the source's network and a libvirt network, or bridge:NAME`,
		"source: {storage: vmware, path: a}\ntarget:\n  storage: kvm\n  storages: {fast: /srv/ssd}":                                      `f:4: target.storages.fast: is "/srv/ssd": write what matches ^[a-z0-9]`,
		"source: {storage: vmware, path: a}\ntarget:\n  storage: kvm\n  storages: {'': kvm}":                                             `f:4: target.storages: has an empty name: write the source's for where disks lie`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nmod: plan":                                                          `f:3: mod: there is no such field: write mode`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nmode: go":                                                           `f:3: mode: is "go": write migrate, rehearse, plan, inspect or test`,
		"source: {storage: vmware, path: a}\ntarget:\n  storage: kvm\n  compress: maybe":                                                 `f:4: target.compress: is "maybe": write true or false`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nschedule:\n  start: tomorrow":                                       `f:4: schedule.start: is "tomorrow": write a time such as 2026-11-26T20:00:00Z`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nschedule: {windows: [nights]}":                                      `f:3: schedule.windows[0]: cannot use the window "nights": "nights" are no days: write mon-fri or sat,sun`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nlimits:\n- 5M\n- fast":                                              `f:5: limits[1]: cannot use the limit "fast"`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\ngrow:\n- {disk: 0, size: 513}":                                      `f:4: grow[0].size: is not a multiple of 512`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\ngrow: [{disk: -1, size: 512}]":                                      `f:3: grow[0].disk: is -1: write at least 0`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm, format: raw, compress: true}":                                        `f:2: target: no such format of a disk: raw has neither compression nor a cluster size`,
		"source: {storage: vmware, path: a}":                                                                                             `f:1: target: is missing: write the storage that the results go to; only the modes plan and inspect have none`,
		"source: {vsphere: {server: vc1, vm: a, marks: {note: moved}}}\ntarget: {storage: kvm}\ntest: {skip: no time}":                   `f:1: source.vsphere.marks: are of a VM whose result is proved to boot, and its test is left out: leave out marks, or test.skip`,
		"source: {storage: vmware, path: a}\nmode: rehearse":                                                                             `f:1: target: is missing`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nmode: test\ntest: {skip: no time}":                                  `f:4: test.skip: is of a test that is asked for`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\ntest: {hardware: vmware}":                                           `f:3: test.hardware: is for guests as they are: write mode: test`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nmode: test\ntest: {hardware: vmware, with: libvirt}":                `f:4: test.hardware: is for guests as they are`,
		"source: {storage: vmware, path: /a}\ntarget: {storage: kvm}":                                                                    `f:1: source.path: begins with a slash`,
		"source: {storage: vmware, path: a/../../b}\ntarget: {storage: kvm}":                                                             `f:1: source.path: leads out of the storage`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nname: ../x":                                                         `f:3: name: is no name of a folder`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nkeys:\n- {device: all, secret: 'Hunter2!'}":                         `f:4: keys[0].secret: is not what is wanted here: write this: the name of a secret that was stored, which matches ^[a-z0-9]`,
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nschedule: {start: 2026-11-26T20:00:00Z, end: 2026-11-26T19:00:00Z}": `f:3: schedule.end: is not after start`,
	} {
		v, err := layers.Read("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, faults := spec.Read(v)
		if err := faults.Err(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n is %v\n want %s", text, err, want)
		}
	}
}

func TestWhatIsRightIsTaken(t *testing.T) {
	for _, text := range []string{
		"source: {storage: vmware, path: a}\nmode: plan",
		"source: {storage: vmware, path: a}\nmode: inspect",
		"source: {disks: [wwn-0x1, usb-Stick_1-0:0]}\ntarget: {storage: kvm, disks: [virtio-a, nvme-eui.2]}",
		"source: {storage: vmware, path: a}\ntarget: {storage: kvm}\nmode: test\ntest: {hardware: vmware}",
	} {
		v, err := layers.Read("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, faults := spec.Read(v); faults.Err() != nil {
			t.Errorf("%s\n is %v", text, faults.Err())
		}
	}
}
