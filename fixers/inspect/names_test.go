package inspect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/machine"
)

// disks makes a topology of disks with three partitions each.
func disks(n int) guest.Topology {
	var t guest.Topology
	for i := range n {
		name := "disk" + string(rune('0'+i))
		d := guest.Disk{Name: name, Table: "gpt"}
		for p := 1; p <= 3; p++ {
			part := name + "p" + string(rune('0'+p))
			d.Partitions = append(d.Partitions, guest.Partition{Name: part, Number: p, UUID: "part-" + part, Label: "label " + part})
			t.Filesystems = append(t.Filesystems, guest.Filesystem{Device: part, Type: "ext4", UUID: "fs-" + part, Label: "data " + part})
		}
		t.Disks = append(t.Disks, d)
	}
	return t
}

func on(bus, model string, controller, unit int) machine.Disk {
	return machine.Disk{Bus: bus, Model: model, Controller: controller, Unit: unit}
}

// volumes are those of two groups; udev and LVM write their names.
var volumes = []guest.Volume{
	{Name: "web-vg/root", Group: "B5ZU3K-IzgP-Xv0Z-pcr0-xKhl-ZC58-ICo7nO", UUID: "zjboa3-DKj6-h22A-ENOU-teT3-O7Q6-wu8eGO"},
	{Name: "web-vg/my-data", Group: "B5ZU3K-IzgP-Xv0Z-pcr0-xKhl-ZC58-ICo7nO", UUID: "SWqVyq-gTXm-S8CT-qnSO-kMTf-RWpI-OJUZdJ"},
	{Name: "twin/one", Group: "g1", UUID: "u1", Problem: "2 volume groups are named twin"},
	{Name: "twin/one", Group: "g2", UUID: "u2", Problem: "2 volume groups are named twin"},
}

func TestLogicalVolumesHaveManyNames(t *testing.T) {
	top := disks(1)
	top.Volumes = volumes
	top.Filesystems = append(top.Filesystems, guest.Filesystem{Device: "web-vg/root", Type: "ext4", UUID: "fs-root", Label: "root"},
		guest.Filesystem{Device: "disk1", Type: guest.LVMMember, UUID: "NVT3xD-p1DC-uosD-1YMV-t71E-jpzM-0wtNt7"})
	f := Facts{Topology: top}
	for spec, want := range map[string]string{
		"/dev/web-vg/root":                     "web-vg/root",
		"/dev/mapper/web--vg-root":             "web-vg/root",
		"/dev/mapper/web--vg-my--data":         "web-vg/my-data",
		"/dev/mapper/web-vg-root":              "",
		"/dev/web--vg/root":                    "",
		"/dev/disk/by-id/dm-name-web--vg-root": "web-vg/root",
		"/dev/disk/by-id/lvm-pv-uuid-NVT3xD-p1DC-uosD-1YMV-t71E-jpzM-0wtNt7":                                 "disk1",
		"/dev/disk/by-id/dm-uuid-LVM-B5ZU3KIzgPXv0Zpcr0xKhlZC58ICo7nOzjboa3DKj6h22AENOUteT3O7Q6wu8eGO":       "web-vg/root",
		"/dev/disk/by-id/dm-uuid-LVM-B5ZU3KIzgPXv0Zpcr0xKhlZC58ICo7nOzjboa3DKj6h22AENOUteT3O7Q6wu8eGO-part1": "",
		"UUID=fs-root":          "web-vg/root",
		"LABEL=root":            "web-vg/root",
		"/dev/twin/one":         "",
		"/dev/mapper/twin-one":  "",
		"/dev/web-vg/none":      "",
		"/dev/mapper/cryptroot": "",
		"/dev/disk0p1":          "",
	} {
		got, ok := f.Resolve(spec, machine.Machine{Disks: []machine.Disk{on("scsi", "pvscsi", 0, 0)}})
		if got != want || ok != (want != "") {
			t.Errorf("Resolve(%q) = %q, %v, want %q", spec, got, ok, want)
		}
		if Unstable(spec) {
			t.Errorf("%q passes for unstable", spec)
		}
	}
	if name, ok := f.Stable("web-vg/root"); !ok || name != "UUID=fs-root" {
		t.Errorf("Stable = %q, %v", name, ok)
	}
	if name, ok := f.Stable("disk1"); ok {
		t.Errorf("Stable of a physical volume = %q", name)
	}
}

func TestAKernelsRootIsTheOneThatWasFound(t *testing.T) {
	top := disks(1)
	top.Volumes = volumes
	top.Filesystems = append(top.Filesystems, guest.Filesystem{Device: "web-vg/root", Type: "ext4", UUID: "fs-root"})
	for options, want := range map[string]int{
		"root=/dev/mapper/web--vg-root ro rd.lvm.lv=web-vg/root rd.lvm.vg=web-vg resume=/dev/web-vg/swap": 0,
		"root=UUID=fs-root":                   0,
		"root=UUID=fs-disk0p1":                1,
		`root="/dev/mapper/web--vg-my--data"`: 1,
		"root=/dev/mapper/gone rd.x=1":        0, // what it means is not known
		"rd.lvm.lv=web-vg/gone":               1,
	} {
		files := openFiles(tree.New())
		f := Facts{Topology: top, Mounts: []Mount{{Device: "web-vg/root", Path: "/"}}, Kernels: []Kernel{{Default: true, Options: options}, {Options: "root=UUID=fs-disk0p1"}}}
		files.arguments(f, machine.Machine{})
		if len(files.problems) != want {
			t.Errorf("%s: problems %v, want %d", options, files.problems, want)
		}
	}
}

func TestResolveFindsWhatTheGuestMeant(t *testing.T) {
	one := []machine.Disk{on("scsi", "pvscsi", 0, 0)}
	units := []machine.Disk{on("scsi", "pvscsi", 0, 0), on("scsi", "pvscsi", 0, 2)}
	two := []machine.Disk{on("scsi", "pvscsi", 0, 0), on("scsi", "pvscsi", 1, 0)}
	four := []machine.Disk{on("scsi", "pvscsi", 0, 0), on("scsi", "pvscsi", 1, 0), on("scsi", "pvscsi", 2, 0), on("scsi", "pvscsi", 3, 1)}
	sata := []machine.Disk{on("sata", "ahci", 0, 0), on("sata", "ahci", 0, 3)}
	ide := []machine.Disk{on("ide", "", 0, 0), on("ide", "", 1, 1)}
	nvme := []machine.Disk{on("nvme", "nvme", 0, 0), on("nvme", "nvme", 0, 1)}
	both := []machine.Disk{on("scsi", "lsilogic", 0, 0), on("nvme", "nvme", 0, 0)}
	kinds := []machine.Disk{on("scsi", "lsilogic", 0, 0), on("scsi", "pvscsi", 1, 0)}
	mixed := []machine.Disk{on("scsi", "pvscsi", 0, 0), on("sata", "ahci", 0, 0)}
	guess := []machine.Disk{{}, {}}
	for _, c := range []struct {
		spec    string
		records []machine.Disk
		want    string // "" when it must not resolve
	}{
		{"UUID=fs-disk0p2", one, "disk0p2"},
		{"UUID=FS-DISK0P2", one, "disk0p2"},
		{`UUID="fs-disk0p2"`, one, "disk0p2"},
		{"UUID=", one, ""},
		{"LABEL=data disk0p1", one, "disk0p1"},
		{"PARTUUID=part-disk1p3", units, "disk1p3"},
		{"PARTLABEL='label disk0p1'", one, "disk0p1"},
		{"/dev/disk/by-uuid/fs-disk0p2", one, "disk0p2"},
		{`/dev/disk/by-label/data\x20disk0p2`, one, "disk0p2"},
		{`/dev/disk/by-partlabel/label\x20disk0p2`, one, "disk0p2"},
		{"/dev/disk/by-partuuid/part-disk0p2", one, "disk0p2"},
		{"/dev/sda", one, "disk0"},
		{"/dev/sda3", one, "disk0p3"},
		{"/dev/sda4", one, ""},
		{"/dev/sdb1", units, "disk1p1"},
		{"/dev/sdc1", units, ""},
		{"/dev/sda1", guess, "disk0p1"},
		{"/dev/sdb1", mixed, ""},
		{"/dev/sda1", both, "disk0p1"},
		{"/dev/sdb1", both, ""},
		{"/dev/nvme0n1p2", both, "disk1p2"},
		{"/dev/nvme0n1p1", nvme, "disk0p1"},
		{"/dev/nvme0n2p1", nvme, "disk1p1"},
		{"/dev/nvme0n3", nvme, ""},
		{"/dev/nvme0n0", nvme, ""},
		{"/dev/nvme0n1p1", guess[:1], "disk0p1"},
		{"/dev/nvme0n1p1", guess, ""},
		{"/dev/hda1", ide, "disk0p1"},
		{"/dev/hdd2", ide, "disk1p2"},
		{"/dev/hdb2", ide, ""},
		{"/dev/hda1", guess[:1], "disk0p1"},
		{"/dev/vdb1", guess, "disk1p1"},
		{"/dev/xvda1", guess, "disk0p1"},
		{"/dev/mapper/vg-root", one, ""},
		{"/dev/vg/root", one, ""},
		{"/dev/sda99999999999999999999", one, ""},
		{"tmpfs", one, ""},
		{"", one, ""},
		{"server:/export", one, ""},

		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", one, "disk0p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0", one, "disk0"},
		{"/dev/disk/by-path/pci-0000:0b:00.0-scsi-0:0:5:0-part2", one, "disk0p2"},
		{"/dev/disk/by-path/virtio-pci-0000:03:00.0-part2", one, ""},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:2:0-part1", units, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1", units, ""},
		{"/dev/disk/by-path/pci-0000:03:00.0-sas-phy2-lun-0-part1", units, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-sas-0x5000c29abc-lun-0-part1", units, ""},
		{"/dev/disk/by-path/pci-0000:13:00.0-sas-0x5000c29abc-lun-0-part1", two, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", two, "disk0p1"},
		{"/dev/disk/by-path/pci-0000:0b:00.0-scsi-0:0:0:0-part1", two, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:13:00.0-scsi-0:0:0:0-part1", four, "disk2p1"},
		{"/dev/disk/by-path/pci-0000:1b:00.0-scsi-0:0:1:0-part1", four, "disk3p1"},
		{"/dev/disk/by-path/pci-0000:04:00.0-scsi-0:0:1:0-part1", four, ""},
		{"/dev/disk/by-path/pci-0000:00:10.0-scsi-0:0:0:0-part1", kinds, "disk0p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", kinds, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:02:01.0-ata-4-part1", sata, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:02:01.0-ata-1.0-part1", sata, "disk0p1"},
		{"/dev/disk/by-path/pci-0000:00:07.1-ata-2.1-part1", ide, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:00:07.1-ata-1-part1", ide, "disk0p1"},
		{"/dev/disk/by-path/pci-0000:00:07.1-scsi-0:0:0:0-part1", ide, ""},
		{"/dev/disk/by-path/pci-0000:0b:00.0-nvme-2-part1", nvme, "disk1p1"},
		{"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1", guess, ""},

		{"/dev/disk/by-id/wwn-0x6000c29d1c2f3a4b5c6d7e8f90a1b2c3-part2", one, "disk0p2"},
		{"/dev/disk/by-id/scsi-36000c29d1c2f3a4b5c6d7e8f90a1b2c3", one, "disk0"},
		{"/dev/disk/by-id/scsi-36000c29d1c2f3a4b5c6d7e8f90a1b2c3", units, ""},
		{"/dev/disk/by-id/dm-name-vg-root", one, ""},
	} {
		m := machine.Machine{Disks: c.records, NICs: []machine.NIC{{Slot: 33}}}
		got, ok := Facts{Topology: disks(len(c.records))}.Resolve(c.spec, m)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("Resolve(%q) with disks %+v = %q, %v, want %q", c.spec, c.records, got, ok, c.want)
		}
	}
}

func TestNetworkCardsBetweenAdaptersMakeAddressesAmbiguous(t *testing.T) {
	m := machine.Machine{NICs: []machine.NIC{{Slot: 192}}}
	for i := range 3 {
		m.Disks = append(m.Disks, on("scsi", "pvscsi", i, 0))
	}
	f := Facts{Topology: disks(3)}
	if got, ok := f.Resolve("/dev/disk/by-path/pci-0000:13:00.0-scsi-0:0:0:0", m); ok {
		t.Errorf("resolved to %s, though a network card is in the row of addresses", got)
	}
	if got, ok := f.Resolve("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0", m); !ok || got != "disk0" {
		t.Errorf("adapter 0 resolved to %q, %v, want disk0", got, ok)
	}
}

func TestDuplicateTagsResolveToNothing(t *testing.T) {
	f := Facts{Topology: disks(2)}
	f.Topology.Filesystems[3].UUID = f.Topology.Filesystems[0].UUID
	if got, ok := f.Resolve("UUID=fs-disk0p1", machine.Machine{}); ok {
		t.Errorf("a UUID of two file systems resolved to %s", got)
	}
	want := map[string][]string{"UUID=fs-disk0p1": {"disk0p1", "disk1p1"}}
	if diff := cmp.Diff(want, f.Duplicates()); diff != "" {
		t.Errorf("duplicates (-want +got):\n%s", diff)
	}
	if spec, ok := f.Stable("disk1p1"); !ok || spec != "PARTUUID=part-disk1p1" {
		t.Errorf("stable name %q, %v, want the PARTUUID", spec, ok)
	}
	if spec, ok := f.Stable("disk1p2"); !ok || spec != "UUID=fs-disk1p2" {
		t.Errorf("stable name %q, %v, want the UUID", spec, ok)
	}
}

func TestAnArrayOfSystemPartitionsIsOne(t *testing.T) {
	f := Facts{Topology: guest.Topology{
		Disks: []guest.Disk{
			{Name: "disk0", Partitions: []guest.Partition{{Name: "disk0p1", Type: espGUID}, {Name: "disk0p2", Type: "fd"}}},
			{Name: "disk1", Partitions: []guest.Partition{{Name: "disk1p1", Type: espByte}, {Name: "disk1p2", Type: "fd"}}},
		},
		Volumes: []guest.Volume{
			{Name: "md/0", On: []string{"disk0p1", "disk1p1"}, Array: &guest.Array{}}, {Name: "md/1", On: []string{"disk0p2", "disk1p2"}, Array: &guest.Array{}},
			{Name: "vg/lv", On: []string{"disk0p1"}},
		},
	}}
	for device, want := range map[string]bool{"disk0p1": true, "disk1p1": true, "md/0": true, "md/1": false, "disk0p2": false, "vg/lv": false, "disk0": false} {
		if got := f.IsESP(device); got != want {
			t.Errorf("IsESP(%s) = %v", device, got)
		}
	}
}

func TestUnstableNamesAreToldFromStableOnes(t *testing.T) {
	for spec, want := range map[string]bool{
		"/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1": true,
		"/dev/disk/by-id/wwn-0x6000c29d":                        true,
		"/dev/disk/by-id/scsi-36000c29d-part1":                  true,
		"/dev/disk/by-id/ata-VMware_Virtual_SATA":               true,
		"/dev/sda": true, "/dev/sda1": true, "/dev/sdaa12": true, "/dev/hdc": true, "/dev/vda2": true, "/dev/xvda1": true,
		"/dev/nvme0n1": true, "/dev/nvme0n1p3": true, "/dev/block/8:1": true,
		"UUID=1234": false, "LABEL=root": false, "PARTUUID=12-01": false, "PARTLABEL=x": false,
		"/dev/disk/by-uuid/1234": false, "/dev/disk/by-label/root": false, "/dev/disk/by-partuuid/1": false,
		"/dev/disk/by-id/dm-name-vg-root": false, "/dev/disk/by-id/lvm-pv-uuid-x": false, "/dev/disk/by-id/virtio-web-disk0-part1": false, "/dev/disk/by-id/md-uuid-x": false,
		"/dev/mapper/vg-root": false, "/dev/vg/root": false, "/dev/md0": false, "/dev/sr0": false, "/dev/sda/x": false,
		"proc": false, "": false,
	} {
		if got := Unstable(spec); got != want {
			t.Errorf("Unstable(%q) = %v, want %v", spec, got, want)
		}
	}
}

func TestAPartOfAVolumeGroupIsNotNamedByItsOwnUUID(t *testing.T) {
	f := Facts{Topology: guest.Topology{
		Disks:       []guest.Disk{{Name: "disk0", Partitions: []guest.Partition{{Name: "disk0p3", Number: 3, UUID: "p3"}}}},
		Filesystems: []guest.Filesystem{{Device: "disk0p3", Type: "LVM2_member", UUID: "XqQ5Kx-1111"}},
	}}
	if name, ok := f.Stable("disk0p3"); !ok || name != "PARTUUID=p3" {
		t.Errorf("Stable = %q, %v, want the partition's: udev makes no by-uuid link for LVM's", name, ok)
	}
}
