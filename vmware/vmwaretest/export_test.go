package vmwaretest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/vmware/vmwaretest"
)

// exported is a lease on a VM that is off, or on a snapshot.
func exported(t *testing.T, c *govmomi.Client, of types.ManagedObjectReference) (*nfc.Lease, *nfc.LeaseInfo) {
	t.Helper()
	var ref types.ManagedObjectReference
	if of.Type == "VirtualMachineSnapshot" {
		response, err := methods.ExportSnapshot(context.Background(), c, &types.ExportSnapshot{This: of})
		if err != nil {
			t.Fatal(err)
		}
		ref = response.Returnval
	} else {
		lease, err := object.NewVirtualMachine(c.Client, of).Export(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		ref = lease.Reference()
	}
	lease := nfc.NewLease(c.Client, ref)
	info, err := lease.Wait(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return lease, info
}

func TestAnExportIsTheDiskAsAStreamOptimizedVMDK(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	const size = 70<<20 + 512 // three tables, and a grain that is not whole
	raw, content := rawDisk(t, size)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, size-5, []byte("at it"))
	copy(content[size-5:], "at it")
	lease, info := exported(t, c, v.Ref)
	updater := lease.StartUpdater(context.Background(), info)
	name := filepath.Join(t.TempDir(), "disk.vmdk")
	if err := lease.DownloadFile(context.Background(), name, info.Items[0], soap.Download{}); err != nil {
		t.Fatal(err)
	}
	updater.Done()
	manifest, err := lease.GetManifest(context.Background())
	if err != nil || len(manifest) != 1 || manifest[0].Size == 0 {
		t.Errorf("the manifest is %+v, %v", manifest, err)
	}
	if err := lease.Complete(context.Background()); err != nil {
		t.Error(err)
	}
	if d := info.DeviceUrl[0]; d.SslThumbprint != s.ThumbprintSHA1 || d.Key != "/"+v.Ref.Value+"/ParaVirtualSCSIController0:0" {
		t.Errorf("the device is %+v", d)
	}
	readByUs(t, name, size)
	readByQEMU(t, name, content)
}

// readByUs has our own reader look at a VMDK.
func readByUs(t *testing.T, name string, size int64) {
	t.Helper()
	chain, err := disk.ReadChain(context.Background(), name, disk.VMDK, nil)
	if err != nil {
		t.Fatal(err)
	}
	if chain.Size != size {
		t.Errorf("we read %d bytes, want %d", chain.Size, size)
	}
}

// readByQEMU is the other opinion.
func readByQEMU(t *testing.T, name string, want []byte) {
	t.Helper()
	if _, err := proc.Look("qemu-img"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	raw := name + ".raw"
	if _, err := proc.Run(context.Background(), "qemu-img", "convert", "-f", "vmdk", "-O", "raw", name, raw); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "read by QEMU", raw, want)
}

func TestARunningVMIsNotExportedAndAnExportedOneDoesNotStart(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	vm := object.NewVirtualMachine(c.Client, v.Ref)
	if _, err := vm.Export(context.Background()); !fault.Is(err, &types.InvalidPowerState{}) {
		t.Errorf("export a running VM: %v", err)
	}
	task, err := vm.PowerOff(context.Background())
	wait(t, task, err)
	lease, _ := exported(t, c, v.Ref)
	if _, err := vm.PowerOn(context.Background()); !fault.Is(err, &types.MethodDisabled{}) {
		t.Errorf("power on an exported VM: %v", err)
	}
	if err := lease.Abort(context.Background(), nil); err != nil {
		t.Error(err)
	}
	task, err = vm.PowerOn(context.Background())
	wait(t, task, err)
}

func TestASnapshotIsExportedAsItWas(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	ref := snapshot(t, c, v.Ref, "one")
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("later"))
	lease, info := exported(t, c, ref)
	updater := lease.StartUpdater(context.Background(), info)
	name := filepath.Join(t.TempDir(), "disk.vmdk")
	if err := lease.DownloadFile(context.Background(), name, info.Items[0], soap.Download{}); err != nil {
		t.Fatal(err)
	}
	updater.Done()
	readByQEMU(t, name, content)
}

func TestALeaseEndsUnlessItsClientTellsOfProgress(t *testing.T) {
	s, c := started(t, vmwaretest.Options{LeaseTimeout: time.Second})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	lease, info := exported(t, c, v.Ref)
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := lease.Progress(context.Background(), 10); err != nil {
			t.Fatal("the lease ended although there was progress: ", err)
		}
	}
	if _, err := lease.Wait(context.Background(), nil); err != nil {
		t.Error("the lease is not ready any more: ", err)
	}
	for end := time.Now().Add(10 * time.Second); len(s.Leaks()) > 1 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if err := lease.Progress(context.Background(), 20); !fault.Is(err, &types.Timedout{}) {
		t.Errorf("progress after the end: %v", err)
	}
	request, err := http.NewRequest(http.MethodGet, info.Items[0].URL.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, _ := fetch(t, c, request); response.StatusCode != http.StatusNotFound {
		t.Errorf("a download after the end: %s", response.Status)
	}
	if _, err := lease.Wait(context.Background(), nil); err == nil {
		t.Error("the lease is ready after its end")
	}
	lease, _ = exported(t, c, v.Ref)
	s.TimeOutLeases()
	if err := lease.Complete(context.Background()); !fault.Is(err, &types.Timedout{}) {
		t.Errorf("complete what nobody told of: %v", err)
	}
}

func TestALeaseThatEndsBreaksItsDownload(t *testing.T) {
	s, c := started(t, vmwaretest.Options{LeaseTimeout: time.Hour})
	raw, _ := rawDisk(t, 64<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	lease, info := exported(t, c, v.Ref)
	response, err := (&http.Client{Transport: c.Client.Client.DefaultTransport()}).Get(info.Items[0].URL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := lease.Abort(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d more bytes, then %v", n, err)
	}
}

func TestAnESXiHostNamesItselfByAnAsteriskAndAnUEFIVMHasItsNVRAM(t *testing.T) {
	s, c := started(t, vmwaretest.Options{ESX: true})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", EFI: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	lease, info := exported(t, c, v.Ref)
	if len(info.DeviceUrl) != 2 || info.DeviceUrl[0].Url != "https://*/nfc/"+lease.Reference().Value+"/disk-0.vmdk" || *info.DeviceUrl[1].Disk {
		t.Errorf("the lease is for %+v", info.DeviceUrl)
	}
	if info.Items[0].URL.Host != s.URL.Host {
		t.Errorf("govmomi reads it as %s", info.Items[0].URL)
	}
}
