package vmwaretest_test

import (
	"context"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/vmware/vmwaretest"
)

func TestAVMHasWhatWasAskedFor(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, _ := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{
		Name: "web01", Folder: "Prod/Web", GuestID: "rhel9_64Guest", SecureBoot: true, CPUs: 4, Memory: 2 << 30, On: true, CBT: true,
		Disks: []vmwaretest.Disk{{Raw: raw}, {Size: 1 << 20, Bus: "nvme"}, {Size: 1 << 20, Bus: "lsilogic-sas", Number: 1}, {Size: 1 << 20, Bus: "sata"}, {Size: 1 << 20, Bus: "ide"}},
		NICs:  []vmwaretest.NIC{{MAC: "00:50:56:aa:bb:cc"}, {Model: "e1000", Network: "DC0_DVPG0"}},
	})
	var m mo.VirtualMachine
	properties(t, c, v.Ref, &m, "name", "config", "runtime", "network")
	h := m.Config.Hardware
	if m.Name != "web01" || m.Config.Firmware != "efi" || !*m.Config.BootOptions.EfiSecureBootEnabled || h.NumCPU != 4 || h.MemoryMB != 2048 ||
		m.Config.GuestId != "rhel9_64Guest" || m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn || !*m.Config.ChangeTrackingEnabled {
		t.Errorf("the VM is %+v", m.Config)
	}
	var keys []int32
	for _, d := range v.Disks {
		keys = append(keys, d.Key)
	}
	if want := [5]int32{2000, 32000, 2016, 16000, 3000}; [5]int32(keys) != want {
		t.Errorf("the disks have the keys %v, want %v", keys, want)
	}
	var network mo.DistributedVirtualPortgroup
	properties(t, c, m.Network[1], &network, "name")
	if network.Name != "DC0_DVPG0" {
		t.Errorf("the second card is in %q", network.Name)
	}
	found, err := find.NewFinder(c.Client).VirtualMachine(context.Background(), "/DC0/vm/Prod/Web/web01")
	if err != nil || found.Reference() != v.Ref {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestTheDescriptorIsOneThatOurReaderTakes(t *testing.T) {
	s, _ := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}, Snapshots: []string{"mine"}})
	flat := s.RawOf(t, "[datastore1] web01/web01.vmdk")
	sameBytes(t, "the base", flat, content)
	for name, want := range map[string]disk.Descriptor{
		"web01.vmdk":        {CreateType: "vmfs", CID: 0xfffffffe, ParentCID: 0xffffffff},
		"web01-000001.vmdk": {CreateType: "vmfsSparse", CID: 0xfffffffe, ParentCID: 0xfffffffe, ParentHint: "web01.vmdk"},
	} {
		text, err := os.ReadFile(path.Join(path.Dir(flat), name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := disk.ParseDescriptor(text)
		if err != nil {
			t.Fatal(err)
		}
		if got.CreateType != want.CreateType || got.CID != want.CID || got.ParentCID != want.ParentCID || got.ParentHint != want.ParentHint || got.Extents[0].Sectors != 2048 {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if now := diskIn(t, logIn(t, s, s.User, s.Password), v.Ref, v.Disks[0].Key); now.FileName != "[datastore1] web01/web01-000001.vmdk" {
		t.Errorf("the VM stands on %s", now.FileName)
	}
}

func TestNamesMayHoldWhatTheyLike(t *testing.T) {
	const store = `größer + "fast" store`
	s, c := started(t, vmwaretest.Options{Datastores: []string{"datastore1", store}})
	for _, name := range []string{"Bäcker & Söhne", "a+b c", `it's "quoted"`, "web/01", "50%"} {
		raw, content := rawDisk(t, 1<<20)
		v := s.AddVM(t, vmwaretest.VM{Name: name, Datastore: store, Disks: []vmwaretest.Disk{{Raw: raw}}})
		var m mo.VirtualMachine
		properties(t, c, v.Ref, &m, "name")
		if want := strings.NewReplacer("%", "%25", "/", "%2f").Replace(name); m.Name != want {
			t.Errorf("the server stores %q, want %q", m.Name, want)
		}
		got := download(t, s, c, v.Disks[0].Path, "")
		if string(got) != string(content) {
			t.Errorf("%s: other bytes came over /folder", v.Disks[0].Path)
		}
	}
}

func TestWritingToALinkedDiskLeavesTheOriginalAlone(t *testing.T) {
	s, _ := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw, Link: true}}})
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("changed"))
	sameBytes(t, "the original", raw, content)
	copy(content, "changed")
	sameBytes(t, "the disk", s.Raw(t, v.Ref, v.Disks[0].Key), content)
}

func TestAnESXiHostServesToo(t *testing.T) {
	s, c := started(t, vmwaretest.Options{ESX: true})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	if c.IsVC() || s.User != "root" {
		t.Errorf("it is a vCenter, or its user is %s", s.User)
	}
	if got := download(t, s, c, v.Disks[0].Path, "ha-datacenter"); string(got) != string(content) {
		t.Error("other bytes came over /folder")
	}
}

func TestACertificateIsItsServersOwn(t *testing.T) {
	s, other := vmwaretest.Start(t, vmwaretest.Options{}), vmwaretest.Start(t, vmwaretest.Options{})
	transport := soap.NewClient(s.URL, false)
	transport.SetThumbprint(s.URL.Host, other.ThumbprintSHA256)
	if _, err := vim25.NewClient(context.Background(), transport); err == nil {
		t.Error("another server's thumbprint was taken")
	}
	transport = soap.NewClient(s.URL, false)
	if err := transport.SetRootCAs(s.CAFile); err != nil {
		t.Fatal(err)
	}
	if _, err := vim25.NewClient(context.Background(), transport); err != nil {
		t.Error("its own certificate was not taken: ", err)
	}
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	u := *s.URL
	transport := soap.NewClient(&u, true)
	client, err := vim25.NewClient(context.Background(), transport)
	if err != nil {
		t.Fatal(err)
	}
	err = session.NewManager(client).Login(context.Background(), url.UserPassword(s.User, "wrong"))
	if !fault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("log in with a wrong password: %v", err)
	}
}
