package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
)

// The files in testdata are VMX files as VMware's programs write them, with
// other names and numbers.
func TestVMXFilesOfVMwaresProgramsAreRead(t *testing.T) {
	for name, want := range map[string]machine.Machine{
		"esxi-pvscsi": {
			Name: "db01", Firmware: machine.BIOS, CPUs: 8, CoresPerSocket: 4, Memory: 64 << 30, UUID: "422a1b9c-0d1e-2f3a-4b5c-6d7e8f90a1b2", GuestID: "oraclelinux8-64",
			LeftBehind: []string{"pcipassthru0"},
			Disks: []machine.Disk{
				{Path: "db01-000002.vmdk", Bus: "scsi", Model: "pvscsi"},
				{Path: "/vmfs/volumes/5f1b2c3d-aabbccdd-0025-b5000a1f/rac/voting.vmdk", Bus: "scsi", Controller: 1, Model: "pvscsi", Shared: "scsi1:0.sharing = multi-writer"},
				{Path: "/vmfs/volumes/5f1b2c3d-aabbccdd-0025-b5000a1f/db01/db01_1.vmdk", Bus: "scsi", Controller: 1, Unit: 1, Model: "pvscsi", Mode: "independent-persistent"},
			},
			NICs: []machine.NIC{
				{MAC: "00:50:56:aa:bb:cc", Network: "dvportgroup-1042", Model: "vmxnet3", Slot: 192},
				{MAC: "00:50:56:01:02:03", Network: "Heartbeat", Model: "vmxnet3", Slot: 1184, Disconnected: true},
			},
		},
		"workstation-windows11": {
			Name: `Büro "11"`, Firmware: machine.UEFI, SecureBoot: true, TPM: true, CPUs: 4, CoresPerSocket: 2, Memory: 8 << 30, UUID: "564d0c1d-2e3f-4051-6273-8495a6b7c8d9", GuestID: "windows11-64",
			Disks: []machine.Disk{{Path: "Windows 11 x64.vmdk", Bus: "nvme"}},
			NICs:  []machine.NIC{{MAC: "00:0c:29:b7:c8:d9", Model: "e1000e", Slot: 160, Connection: "nat"}},
		},
		"workstation-linux": {
			Name: "old build host", Firmware: machine.BIOS, CPUs: 1, CoresPerSocket: 1, Memory: 1 << 30, GuestID: "debian6",
			LeftBehind: []string{"scsi1:1"},
			Disks: []machine.Disk{
				{Path: "root-000001.vmdk", Bus: "scsi", Controller: 1, Model: "buslogic", Mode: "independent-nonpersistent", Boot: 1},
				{Path: "../data/data.vmdk", Bus: "sata", Unit: 3},
				{Path: "boot.vmdk", Bus: "ide", Boot: 2},
			},
			NICs: []machine.NIC{
				{Connection: "bridged"},
				{MAC: "00:50:56:3f:00:02", Network: "/dev/vmnet3", Model: "vlance", Connection: "custom"},
			},
		},
		"fusion": {
			Name: "Ubuntu 64-bit Arm", Firmware: machine.UEFI, CPUs: 2, CoresPerSocket: 1, Memory: 4 << 30, UUID: "564d6c93-1122-3344-5566-7788997c6c93", GuestID: "ubuntu-64",
			Disks: []machine.Disk{{Path: "Virtual Disk.vmdk", Bus: "nvme"}},
			NICs:  []machine.NIC{{MAC: "00:0c:29:7c:6c:93", Model: "e1000e", Slot: 160, Connection: "nat"}},
		},
		"workstation-gbk": {
			Name: "数据库服务器", Firmware: machine.BIOS, CPUs: 1, CoresPerSocket: 1, Memory: 2 << 30,
			Disks: []machine.Disk{{Path: `D:\虚拟机\数据库服务器.vmdk`, Bus: "scsi"}},
		},
		"workstation-shift-jis": {
			Name: "ソフト表示", Firmware: machine.BIOS, CPUs: 1, CoresPerSocket: 1, Memory: 2 << 30,
			Disks: []machine.Disk{{Path: "ソフト表示.vmdk", Bus: "ide"}},
		},
		"gsx-no-encoding": {
			Name: "Büro", Firmware: machine.BIOS, CPUs: 1, CoresPerSocket: 1, Memory: 32 << 20,
			Disks: []machine.Disk{{Path: "Büro.vmdk", Bus: "ide"}},
		},
	} {
		want.Source = "/vms/" + name + ".vmx"
		text, err := os.ReadFile(filepath.Join("testdata", name+".vmx"))
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseVMX(strings.NewReader(string(text)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := v.machine(want.Source)
		if err == nil {
			err = v.atRest(want.Source, got)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestDisksStandInTheOrderOfTheFirmware(t *testing.T) {
	v := VMX{}
	for _, place := range []string{"ide1:0", "sata1:0", "scsi1:2", "nvme0:1", "scsi0:10", "scsi0:2", "sata0:4", "ide0:1", "nvme0:0", "scsi3:0"} {
		v[place+".filename"] = place
	}
	disks, err := v.disks()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range disks {
		got = append(got, d.Path)
	}
	want := []string{"scsi0:2", "scsi0:10", "scsi1:2", "scsi3:0", "nvme0:0", "nvme0:1", "sata0:4", "sata1:0", "ide0:1", "ide1:0"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEveryTypeOfDeviceIsADiskOrIsNone(t *testing.T) {
	for _, c := range []struct {
		kind, file string
		want       device
	}{
		{"", "a.vmdk", fixed}, {"disk", "a.vmdk", fixed}, {"scsi-hardDisk", "a.vmdk", fixed}, {"ata-hardDisk", "a.vmdk", fixed}, {"plainDisk", "a.vmdk", fixed},
		{"rawDisk", "a.vmdk", fixed}, {"scsi-nonpassthru-rdm", "a-rdm.vmdk", fixed}, {"hologram", "a.VMDK", fixed},
		{"", "a.ISO", removable}, {"", "auto detect", removable}, {"disk", "a.iso", removable}, {"cdrom-image", "a.vmdk", removable}, {"cdrom-raw", "", removable}, {"ATAPI-cdrom", "/dev/sr0", removable},
		{"scsi-passthru", "/dev/sg3", passthrough},
	} {
		v := VMX{"scsi0:0.devicetype": c.kind}
		if got, err := v.kind("scsi0:0", c.file); got != c.want || err != nil {
			t.Errorf("kind(%q, %q) = %v, %v, want %v", c.kind, c.file, got, err, c.want)
		}
	}
}

// Whoever wrote the file may mean one thing or another, or no good.
func TestAVMXThatMeansNothingIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		"KDMV\x01\x02":                           "line 1 is not a setting",
		"memSize":                                `line 1 is not a setting: "memSize"`,
		" = \"x\"":                               "line 1 is not a setting",
		strings.Repeat("#", maxVMX+1):            "it is no VMX file",
		".encoding = \"EBCDIC-of-old\"":          `its encoding "ebcdic-of-old" is not known; write the file in UTF-8`,
		"memSize = \"1024\"\nMEMSIZE = \"2048\"": `line 2 gives memsize again, and differently: "2048" after "1024" in line 1; take one of them out`,
		"scsi0:0.fileName = \"a.vmdk\"\nscsi0:0.filename = \"b.vmdk\"": "line 2 gives scsi0:0.filename again",
		"memSize = \"lots\"":                                                      `memsize = "lots" is not a number from 0 to 67108864`,
		"memSize = \"-5\"":                                                        `memsize = "-5" is not a number`,
		"memSize = \"99999999999999999999\"":                                      "is not a number from 0",
		"memSize = \"0\"":                                                         "memsize is 0: the machine has no memory",
		"numvcpus = \"1000000\"":                                                  "is not a number from 0 to 1024",
		"cpuid.coresPerSocket = \"1e3\"":                                          "is not a number from 0 to 1024",
		"firmware = \"coreboot\"":                                                 `firmware = "coreboot" is neither bios nor efi`,
		"scsi0:99.fileName = \"a.vmdk\"":                                          `scsi0:99 is no place that VMware has for a disk (scsi0:0 to scsi3:64); set scsi0:99.present = "FALSE"`,
		"scsi4:0.fileName = \"a.vmdk\"":                                           "scsi4:0 is no place",
		"ide0:2.fileName = \"a.vmdk\"":                                            "ide0:2 is no place that VMware has for a disk (ide0:0 to ide1:1)",
		"sata0:30.fileName = \"a.vmdk\"":                                          "sata0:30 is no place",
		"nvme99999999999999999999:0.fileName = \"a.vmdk\"":                        "is no place that VMware has for a disk",
		"scsi00:0.fileName = \"a.vmdk\"":                                          "scsi00:0 is no place",
		"scsi0:0.fileName = \"a.bin\"\nscsi0:0.deviceType = \"tape\"":             `scsi0:0.deviceType = "tape" is not known; if it is no disk, set scsi0:0.present = "FALSE"`,
		"scsi0:0.fileName = \"a\"\nscsi0:0.redo = \"./a.REDO_xyz\"":               `the newest data of scsi0:0 are in "./a.REDO_xyz"`,
		"ethernet10.present = \"TRUE\"":                                           "ethernet10 is no network card that VMware has (ethernet0 to ethernet9)",
		"ethernet00.present = \"TRUE\"":                                           "ethernet00 is no network card",
		"ethernet0.present = \"TRUE\"\nethernet0.address = \"x\"":                 `ethernet0: "x" is not the MAC address of a network card`,
		"ethernet0.present = \"TRUE\"\nethernet0.address = \"01:00:5e:00:00:01\"": "is not the MAC address of a network card",
		"ethernet0.present = \"TRUE\"\nethernet0.address = \"00:00:00:00:00:00\"": "is not the MAC address of a network card",
		"ethernet0.present = \"TRUE\"\nethernet0.address = \"00:50:56:00:00:01,script=/tmp/x\"":    "is not the MAC address of a network card",
		"ethernet0.present = \"TRUE\"\nethernet0.address = \"00:00:00:00:fe:80:00:00\"":            "is not the MAC address of a network card",
		"ethernet0.present = \"TRUE\"\nethernet0.pciSlotNumber = \"99999999\"":                     "ethernet0.pcislotnumber = \"99999999\" is not a number",
		"ide0:0.fileName = \"a.vmdk\"\ncheckpoint.vmState = \"web-2f3c.vmss\"":                     `the machine is suspended, and part of its state is in "web-2f3c.vmss"; resume it and shut it down`,
		"displayName = \"vault\"\nencryption.keySafe = \"vmware:key\"\nencryption.data = \"A0sq\"": "disk is encrypted, and so is what it says of its disks; take off the encryption in VMware",
	} {
		v, err := ParseVMX(strings.NewReader(text))
		if err == nil {
			var m machine.Machine
			if m, err = v.machine("/a.vmx"); err == nil {
				err = v.atRest("/a.vmx", m)
			}
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %v, want %q", text, err, says)
		}
	}
}

// What is said twice alike, or means nothing here, is no reason to refuse.
func TestAVMXMaySayTheSameTwice(t *testing.T) {
	v, err := ParseVMX(strings.NewReader("\ufeffmemSize = \"64\"\r\nmemsize = \"64\"\r\nhint.x = \"1\"\r\nhint.x = \"2\"\r\nannotation = \"|FF|FE\"\r\nmemsize.x = y=z\r\n"))
	want := VMX{"memsize": "64", "hint.x": "2", "annotation": "|FF|FE", "memsize.x": "y=z"}
	if d := cmp.Diff(want, v); err != nil || d != "" {
		t.Errorf("ParseVMX: %v\n%s", err, d)
	}
}

func TestAVMXFindsItsDisksInItsFolderOrWhereItMay(t *testing.T) {
	top := t.TempDir()
	folder, elsewhere := filepath.Join(top, "web"), filepath.Join(top, "other datastore")
	for _, name := range []string{filepath.Join(folder, "web.vmdk"), filepath.Join(folder, "sub", "in.vmdk"), filepath.Join(elsewhere, "data.vmdk")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	vmx := filepath.Join(folder, "web.vmx")
	for name, c := range map[string]struct {
		allowed    []string
		want, says string
	}{
		"web.vmdk":                        {nil, "web/web.vmdk", ""},
		`.\web.vmdk`:                      {nil, "web/web.vmdk", ""},
		`sub\in.vmdk`:                     {nil, "web/sub/in.vmdk", ""},
		`C:\VMs\web\web.vmdk`:             {nil, "web/web.vmdk", ""},
		"/vmfs/volumes/ds1/web/web.vmdk":  {nil, "web/web.vmdk", ""},
		"/vmfs/volumes/ds2/web/data.vmdk": {nil, "", `web.vmx names the disk "/vmfs/volumes/ds2/web/data.vmdk" (scsi0:0): disk depends on other files: data.vmdk does not exist; put it into ` + folder + `, or say with --allow-folder DIR in which folder it is`},
		"/vmfs/volumes/ds3/web/data.vmdk": {[]string{elsewhere}, "other datastore/data.vmdk", ""},
		"../other datastore/data.vmdk":    {nil, "", "is outside of " + folder + "; if it is meant, give --allow-folder '" + elsewhere + "'"},
		`..\other datastore\data.vmdk`:    {[]string{elsewhere}, "other datastore/data.vmdk", ""},
		elsewhere + "/data.vmdk":          {[]string{top}, "other datastore/data.vmdk", ""},
		"/etc/passwd":                     {nil, "", "give --allow-folder /etc"},
		"/dev/zero":                       {nil, "", "is not a file"},
		"sub":                             {nil, "", "is not a file"},
	} {
		if err := os.WriteFile(vmx, []byte("scsi0:0.fileName = \""+name+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := readVMX(vmx, c.allowed)
		switch {
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: readVMX = %v, want %q", name, err, c.says)
		case c.says == "" && (err != nil || m.Disks[0].Path != filepath.Join(top, c.want)):
			t.Errorf("%s: readVMX = %+v, %v, want %s", name, m.Disks, err, c.want)
		}
	}
	if err := os.WriteFile(vmx, []byte("scsi0:0.fileName = \"web.vmdk\"\nscsi0:1.fileName = \"./web.vmdk\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := readVMX(vmx, nil); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one file as two disks: %+v, %v", m.Disks, err)
	}
}

func TestAMachineThatRunsOnESXiIsInUse(t *testing.T) {
	folder := t.TempDir()
	vmx := filepath.Join(folder, "web.vmx")
	for name, text := range map[string]string{"web.vmx": "scsi0:0.fileName = \"web.vmdk\"\nsched.swap.derivedName = \"/vmfs/volumes/ds1/web/web-7c9a0b1c.vswp\"\n", "web.vmdk": ""} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readVMX(vmx, nil); err != nil {
		t.Errorf("at rest: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "web-7c9a0b1c.vswp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readVMX(vmx, nil); !errors.Is(err, disk.ErrInUse) {
		t.Errorf("running: %v, want %v", err, disk.ErrInUse)
	}
}

func FuzzParseVMX(f *testing.F) {
	files, err := filepath.Glob("testdata/*.vmx")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVMX(strings.NewReader(text))
		if err != nil {
			return
		}
		m, err := v.machine("/a.vmx")
		if err != nil {
			return
		}
		if m.CPUs > mostCPUs || m.Memory > mostMemoryMB<<20 || m.Memory < 1 || len(m.NICs) > mostNICs {
			t.Errorf("machine = %+v", m)
		}
		seen := map[string]bool{}
		for _, d := range m.Disks {
			if d.Path == "" || d.Unit > 64 || d.Controller > 3 || seen[at(d)] {
				t.Errorf("disk %+v", d)
			}
			seen[at(d)] = true
		}
	})
}
