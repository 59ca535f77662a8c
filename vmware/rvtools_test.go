package vmware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/xuri/excelize/v2"

	"hyper2kvm/pipeline/machine"
)

// workbook writes an .xlsx file as RVTools 4 does: a tab each, names in the first row.
func workbook(t testing.TB, tabs map[string][][]any) string {
	t.Helper()
	f := excelize.NewFile()
	for name, rows := range tabs {
		if _, err := f.NewSheet(name); err != nil {
			t.Fatal(err)
		}
		w, err := f.NewStreamWriter(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			if err := w.SetRow(fmt.Sprint("A", i+1), row); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "RVTools_export_all.xlsx")
	if err := errors.Join(f.DeleteSheet("Sheet1"), f.SaveAs(path), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAWorkbookOfRVToolsGivesVMs(t *testing.T) {
	head := func(names ...any) []any { return append([]any{"VM", "VM ID", "VI SDK UUID"}, names...) }
	id := func(vm, ref string, cells ...any) []any { return append([]any{vm, ref, "sdk-1"}, cells...) }
	path := workbook(t, map[string][][]any{
		"vInfo": {
			head("Powerstate", "Template", "CPUs", "Memory", "Firmware", "HW version", "In Use MiB", "Unshared MiB", "Folder", "Datacenter", "Cluster", "Host", "SMBIOS UUID", "VM UUID", "EFI Secure boot", "EnableUUID", "CBT", "Primary IP Address", "DNS Name", "Consolidation Needed", "Connection state", "FT State", "OS according to the configuration file", "Path", "Annotation"),
			id("web01", "vm-1", "poweredOn", false, 4, 8192, "efi", "vmx-19", 30000, 20000, "/Web/Front", "DC0", "C0", "esx1", "4205AA", "5005AA", true, true, true, "192.0.2.7", "web01.example", true, "connected", "notConfigured", "Red Hat Enterprise Linux 9 (64-bit)", "[ds] web01/web01.vmx", "=cmd()"),
			id("web01", "vm-2", "poweredOff", true, 1, 512, "bios", "vmx-13", 10, 10, "", "DC0", "", "esx1", "4205BB", "5005BB", false, false, false, "", "", false, "inaccessible", "running", "Microsoft Windows Server 2019 (64-bit)", "", ""),
		},
		"vDisk": {
			head("Disk", "Disk Key", "Disk UUID", "Path", "Capacity MiB", "Raw", "Disk Mode", "Sharing mode", "Thin", "Controller", "Unit #", "Shared Bus", "Raw LUN ID", "Raw Comp. Mode"),
			id("web01", "vm-1", "Hard disk 2", 2016, "6000C2", "[ds 2] web01/web01_1.vmdk", 1024, false, "independent_persistent", "sharingMultiWriter", true, "SCSI controller 1", 0, "physicalSharing", "", ""),
			id("web01", "vm-1", "Hard disk 1", 2000, "6000C1", "[ds] web01/web01.vmdk", 40960, false, "persistent", "sharingNone", false, "SCSI controller 0", 0, "noSharing", "", ""),
			id("web01", "vm-2", "Hard disk 1", 2000, "", "[ds] w/w.vmdk", 10, true, "", "sharingNone", false, "NVME controller 0", 1, "noSharing", "naa.60", "physicalMode"),
			id("gone", "vm-3", "Hard disk 1", 2000, "", "", 10, false, "", "", false, "", 0, "", "", ""),
		},
		"vNetwork": {
			head("NIC label", "Adapter", "Network", "Starts Connected", "Mac Address", "IPv4 Address", "IPv6 Address"),
			id("web01", "vm-1", "Network adapter 1", "Vmxnet3", "VM Network", true, "00:50:56:AA:BB:CC", "192.0.2.7, 192.0.2.8", "2001:db8::7"),
		},
		"vSnapshot":  {head("Name", "Description", "Date / time"), id("web01", "vm-1", "before", "update", 44197.5)},
		"vPartition": {head("Disk", "Capacity MiB", "Free MiB"), id("web01", "vm-1", "/", 1000, 5)},
	})
	vms, err := ReadRVTools(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(vms) != 2 {
		t.Fatalf("%d VMs", len(vms))
	}
	vms[0].Unknown, vms[1].Unknown = nil, nil
	want := VM{
		Ref: "vm-1", Name: "web01", Path: "/DC0/vm/Web/Front/web01", Datacenter: "DC0", Cluster: "C0", Host: "esx1", Power: On, BIOSUUID: "4205aa", InstanceUUID: "5005aa", GuestName: "Red Hat Enterprise Linux 9 (64-bit)",
		Firmware: machine.UEFI, SecureBoot: true, DiskUUID: true, CBT: true, Consolidate: true, CPUs: 4, Memory: 8 << 30, Hardware: "vmx-19", Used: 30000 << 20, Unshared: 20000 << 20, Addresses: []string{"192.0.2.7"}, HostName: "web01.example",
		VMX: "[ds] web01/web01.vmx", Annotation: "=cmd()",
		Disks: []Disk{
			{Key: 2000, Label: "Hard disk 1", Bus: "scsi", UUID: "6000C1", Size: 40 << 30, Files: []string{"[ds] web01/web01.vmdk"}, Datastore: "ds", Kind: "flat", Mode: "persistent", Reachable: true},
			{Key: 2016, Label: "Hard disk 2", Bus: "scsi", Controller: 1, UUID: "6000C2", Size: 1 << 30, Files: []string{"[ds 2] web01/web01_1.vmdk"}, Datastore: "ds 2", Kind: "flat", Mode: "independent_persistent", Sharing: "sharingMultiWriter", BusSharing: "physical", Thin: true, Reachable: true},
		},
		NICs:       []NIC{{Label: "Network adapter 1", Model: "vmxnet3", MAC: "00:50:56:aa:bb:cc", Network: "VM Network", Connected: true, Addresses: []string{"192.0.2.7", "192.0.2.8", "2001:db8::7"}}},
		Snapshots:  []Snapshot{{Name: "before", Text: "update", Created: time.Date(2021, 1, 1, 12, 0, 0, 0, time.UTC)}},
		Partitions: []Partition{{Path: "/", Capacity: 1000 << 20, Free: 5 << 20}},
	}
	if d := cmp.Diff(want, vms[0]); d != "" {
		t.Errorf("the first VM (-want +got):\n%s", d)
	}
	other := vms[1]
	if other.Power != Off || !other.Template || other.State != "inaccessible" || !other.FaultTolerance || other.Path != "/DC0/vm/web01" || len(other.Disks) != 1 || other.Disks[0].Kind != "rdm-physical" || other.Disks[0].Device != "naa.60" || other.Disks[0].Bus != "nvme" || other.Disks[0].Unit != 1 {
		t.Errorf("the second VM: %+v", other)
	}
}

// RVTools 3 on a German Windows: semicolons, MB, thousands set apart, no VM ID.
func TestTheCSVFilesOfRVToolsGiveVMs(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"RVTools_tabvInfo.csv":    "\ufeffVM;Powerstate;Template;CPUs;Memory;In Use MB;OS;HW version;Datacenter;Cluster;Host\r\n\"a;b\";poweredOn;False;2;4.096;1.048.576;Debian;8;DC;;h\r\n=1+1;suspended;False;1;512;7;Other;13;DC;;h\r\n",
		"RVTools_tabvDisk.csv":    "VM;Disk;Capacity MB;Raw;Persistence;Thin;Controller;Unit #;Disk Path\r\n\"a;b\";Hard disk 1;10.240;False;persistent;True;SCSI controller 0;0;[ds] a/a.vmdk\r\n",
		"RVTools_tabvNetwork.csv": "VM;Adapter;Network;Starts Connected;Mac Address;IP Address\r\n\"a;b\";PCNet32;LAN;True;00-50-56-00-00-01;192.0.2.1\r\n",
		"RVTools_tabvHost.csv":    "Host\r\nh\r\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vms, err := ReadRVTools(folder)
	if err != nil || len(vms) != 2 {
		t.Fatalf("%v, %v", vms, err)
	}
	for _, field := range []string{"snapshots", "partitions", "firmware", "cbt", "disk_uuid", "guest_id", "disks.change_id", "disks.uuid"} {
		if !vms[0].unsaid(field) {
			t.Errorf("%s is not said to be unknown: %q", field, vms[0].Unknown)
		}
	}
	if vms[0].unsaid("used") || vms[0].unsaid("nics.model") {
		t.Errorf("what is known is unknown: %q", vms[0].Unknown)
	}
	vms[0].Unknown = nil
	want := VM{Name: "a;b", Path: "/DC/vm/a;b", Datacenter: "DC", Host: "h", Power: On, CPUs: 2, Memory: 4 << 30, Used: 1 << 40, GuestName: "Debian", Hardware: "vmx-08",
		Disks: []Disk{{Label: "Hard disk 1", Bus: "scsi", Size: 10 << 30, Mode: "persistent", Kind: "flat", Thin: true, Files: []string{"[ds] a/a.vmdk"}, Datastore: "ds", Reachable: true}},
		NICs:  []NIC{{Model: "vlance", MAC: "00:50:56:00:00:01", Network: "LAN", Connected: true, Addresses: []string{"192.0.2.1"}}}}
	if d := cmp.Diff(want, vms[0]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	got := codesOf(Concerns(vms[1], Around{}))
	if want := []string{"vsphere/suspended", "vsphere/no-disks", "vsphere/unknown"}; !slices.Equal(got, want) {
		t.Errorf("concerns of a VM of which little is known: %q", got)
	}
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	folder := t.TempDir()
	for name, c := range map[string]struct{ text, says string }{
		"empty.csv":  {"", "is empty"},
		"other.csv":  {"Name,Power\na,b\n", "no column VM in its first row"},
		"power.csv":  {"VM,Powerstate\na,maybe\n", `row 2: the power state of "a" is "maybe"`},
		"book.xlsx":  {"PK no zip", "neither an .xlsx file"},
		"quotes.csv": {"VM,Powerstate\n\"a,poweredOn\n", "quote"},
	} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRVTools(path); name != "quotes.csv" && !errors.Is(err, ErrRVTools) || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if _, err := ReadRVTools(filepath.Join(folder, "absent")); !errors.Is(err, ErrRVTools) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := ReadRVTools(workbook(t, map[string][][]any{"vHost": {{"Host"}}})); !errors.Is(err, ErrRVTools) || !strings.Contains(err.Error(), "no tab vInfo") {
		t.Errorf("without vInfo: %v", err)
	}
}

func FuzzReadRVToolsCSV(f *testing.F) {
	f.Add("VM,Powerstate,Memory\na,poweredOn,\"1,024\"\n")
	f.Add("VM;Powerstate;Memory\n\"a\"\"b\";poweredOff;1e9\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "vInfo.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		vms, err := ReadRVTools(path)
		for _, vm := range vms {
			if err != nil || vm.Name == "" || vm.Memory < 0 || vm.CPUs < 0 {
				t.Errorf("%+v, %v", vm, err)
			}
		}
	})
}
