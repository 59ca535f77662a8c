package machine

import (
	"slices"
	"testing"
)

func TestEveryDeviceHasAPortOfItsOwn(t *testing.T) {
	m := Machine{Name: "db", CPUs: 4, CoresPerSocket: 2, NICs: make([]NIC, 3), Disks: make([]Disk, 20)}
	for _, d := range []Domain{
		Target(m, Caps{DiskBus: "virtio", RNG: true, Balloon: true}),
		Target(m, Caps{DiskBus: "scsi"}),
		Target(m, Caps{DiskBus: "sata"}),
		Control(m),
	} {
		used := []int{d.Channel}
		for _, v := range d.Disks {
			used = append(used, v.Port)
		}
		for _, n := range d.NICs {
			used = append(used, n.Port)
		}
		if d.SCSI != nil {
			used = append(used, d.SCSI.Port)
		}
		used = slices.DeleteFunc(append(used, d.Balloon, d.RNG), func(p int) bool { return p == 0 })
		slices.Sort(used)
		if n := len(used); len(slices.Compact(used)) != n {
			t.Errorf("bus %s: ports %v are used twice", d.Disks[0].Bus, used)
		}
		if last := used[len(used)-1]; last > d.Ports {
			t.Errorf("bus %s: port %d of %d", d.Disks[0].Bus, last, d.Ports)
		}
		if d.Sockets != 2 || d.Cores != 2 {
			t.Errorf("4 CPUs with 2 cores a socket are %d sockets of %d", d.Sockets, d.Cores)
		}
	}
}

func TestTheDiskThatTheFirmwareWasToldOfBootsFirst(t *testing.T) {
	m := Machine{Disks: []Disk{{}, {Boot: 2}, {}, {Boot: 1}}}
	for _, d := range []Domain{Target(m, Caps{DiskBus: "virtio"}), Control(m)} {
		var got []int
		for _, v := range d.Disks {
			got = append(got, v.Boot)
		}
		if want := []int{3, 2, 4, 1}; !slices.Equal(got, want) {
			t.Errorf("the disks boot in the order %v, want %v", got, want)
		}
	}
}

func TestControlPutsPVSCSIWhereVMwareDoes(t *testing.T) {
	d := Control(Machine{NICs: make([]NIC, 2), Disks: make([]Disk, 1)})
	if d.SCSI.Port != 3 || d.NICs[0].Port != 2 {
		t.Errorf("pvscsi on port %d, first NIC on port %d, want 3 and 2", d.SCSI.Port, d.NICs[0].Port)
	}
}

func TestDiskNamesFollowTheKernel(t *testing.T) {
	for i, want := range map[int]string{0: "vda", 25: "vdz", 26: "vdaa", 27: "vdab", 701: "vdzz", 702: "vdaaa"} {
		if got := diskName("vd", i); got != want {
			t.Errorf("diskName(%d) = %q, want %q", i, got, want)
		}
	}
}

func TestSerialFitsVirtioBlk(t *testing.T) {
	got := Serial("Web Server_01 (production, Frankfurt)", 11)
	if want := "webserver01pr-disk11"; got != want || len(got) > maxSerial {
		t.Errorf("Serial = %q, want %q", got, want)
	}
}

func TestTheSerialsOfManyDisksDiffer(t *testing.T) {
	seen := map[string]int{}
	for i := range 60 {
		s := Serial("A machine with a long name", i)
		if other, ok := seen[s[:min(len(s), maxSerial)]]; ok {
			t.Errorf("disks %d and %d are both %q to the guest", other, i, s)
		}
		seen[s[:min(len(s), maxSerial)]] = i
	}
	if got := Serial("web01", 0); got != "web01-disk0" {
		t.Errorf("Serial = %q", got)
	}
}

// TestADomainWithTooManyDevicesDoesNotFit: QEMU would not start it, after all was copied.
func TestADomainWithTooManyDevicesDoesNotFit(t *testing.T) {
	with := func(bus string, disks int) Domain {
		return Target(Machine{Disks: make([]Disk, disks), NICs: make([]NIC, 1)}, Caps{DiskBus: bus})
	}
	for bus, most := range map[string]int{"sata": 6, "scsi": 100, "virtio": 226} {
		if err := with(bus, most).Fits(); err != nil {
			t.Errorf("%d disks on %s: %v", most, bus, err)
		}
		if err := with(bus, most+1).Fits(); err == nil {
			t.Errorf("%d disks fit on %s", most+1, bus)
		}
	}
	if err := Control(Machine{Disks: make([]Disk, 65)}).Fits(); err == nil {
		t.Error("65 disks fit on one pvscsi")
	}
}
