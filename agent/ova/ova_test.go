package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

var sample = Appliance{Name: "hyper2kvm", Version: "1.0 <beta> & more", CPUs: 4, MemoryMiB: 8192, Capacity: 64 << 20, Built: time.Unix(1_700_000_000, 0),
	Properties: []firstboot.Property{
		{Key: "hostname", Type: "string", Qualifiers: "MaxLen(64)", Label: "Host name", Description: `What it is called; "none": by DHCP`},
		{Key: "token", Type: "string", Label: "Token", Description: "To join with", Password: true},
	}}

// written is the sample, and the raw disk in it.
func written(t *testing.T) (path string, raw []byte) {
	t.Helper()
	if _, err := proc.Look("qemu-img"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	folder := t.TempDir()
	raw = make([]byte, 3<<20)
	if _, err := rand.Read(raw[1<<20 : 2<<20]); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(folder, "image.raw")
	if err := os.WriteFile(image, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(folder, "hyper2kvm.ova")
	if err := Write(t.Context(), sample, image, path); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
	return path, raw
}

// unpacked are the archive's files, in their order.
func unpacked(t *testing.T, path string) (names []string, texts map[string][]byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	texts = map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		texts[h.Name] = text
	}
}

func TestTheDiskInTheArchiveIsTheImage(t *testing.T) {
	path, raw := written(t)
	names, texts := unpacked(t, path)
	if want := []string{"hyper2kvm.ovf", "hyper2kvm.mf", "hyper2kvm-disk1.vmdk"}; !cmp.Equal(names, want) {
		t.Errorf("in it are %q, want %q", names, want)
	}
	vmdk, back := filepath.Join(t.TempDir(), "disk.vmdk"), filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(vmdk, texts["hyper2kvm-disk1.vmdk"], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", "vmdk", "-O", disk.Raw, "--", vmdk, back); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(back)
	if err != nil || int64(len(got)) != sample.Capacity || !bytes.Equal(got[:len(raw)], raw) || len(bytes.Trim(got[len(raw):], "\x00")) > 0 {
		t.Errorf("the disk has %d bytes, %v, and they may be others", len(got), err)
	}
	want, err := manifest(file{name: names[0], text: texts[names[0]]}, file{name: names[2], text: texts[names[2]]})
	if err != nil || !bytes.Equal(texts["hyper2kvm.mf"], want) {
		t.Errorf("the manifest is %s, want %s, %v", texts["hyper2kvm.mf"], want, err)
	}
}

func TestWhatIsThereIsNotWrittenOver(t *testing.T) {
	path, _ := written(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(filepath.Dir(path), "image.raw")
	if err := Write(t.Context(), sample, image, path); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("it is another one now: %v", err)
	}
}

// TestVSphereImportsIt by the importer of govc, into VMware's simulator. That checks no
// manifest, and takes no notice of VMware's own settings, such as the firmware: what of
// them a real vCenter takes is not proved.
func TestVSphereImportsIt(t *testing.T) {
	path, _ := written(t)
	simulator.Test(func(ctx context.Context, c *vim25.Client) {
		vm := imported(t, ctx, c, path)
		var devices []string
		for _, d := range vm.Config.Hardware.Device {
			switch d := d.(type) {
			case *types.ParaVirtualSCSIController:
				devices = append(devices, "pvscsi")
			case *types.VirtualVmxnet3:
				devices = append(devices, "vmxnet3")
			case *types.VirtualDisk:
				devices = append(devices, "disk")
				if d.CapacityInBytes != sample.Capacity {
					t.Errorf("the disk has %d bytes", d.CapacityInBytes)
				}
			}
		}
		if got := strings.Join(devices, " "); got != "pvscsi disk vmxnet3" && got != "pvscsi vmxnet3 disk" {
			t.Errorf("it has %s", got)
		}
		if vm.Config.Hardware.NumCPU != 4 || vm.Config.Hardware.MemoryMB != 8192 {
			t.Errorf("it has %d CPUs, %d MiB", vm.Config.Hardware.NumCPU, vm.Config.Hardware.MemoryMB)
		}
	})
}

func imported(t *testing.T, ctx context.Context, c *vim25.Client, path string) (vm mo.VirtualMachine) {
	t.Helper()
	f := find.NewFinder(c)
	dc, err := f.DefaultDatacenter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.SetDatacenter(dc)
	store, err1 := f.Datastore(ctx, "LocalDS_0")
	pool, err2 := f.ResourcePool(ctx, "DC0_C0/Resources")
	host, err3 := f.HostSystem(ctx, "DC0_C0_H0")
	folders, err4 := dc.Folders(ctx)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	i := importer.Importer{Name: "appliance", Client: c, Finder: f, Datacenter: dc, Datastore: store, ResourcePool: pool, Host: host, Folder: folders.VmFolder,
		Archive: &importer.TapeArchive{Path: path}, Log: func(s string) (int, error) { return len(s), nil }}
	o := importer.Options{DiskProvisioning: "thin", NetworkMapping: []importer.Network{{Name: "Management", Network: "VM Network"}},
		PropertyMapping: []importer.Property{{KeyValue: importer.KeyValue{Key: "hostname", Value: "h1"}}}}
	ref, err := i.Import(ctx, "*.ovf", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&govmomi.Client{Client: c}).RetrieveOne(ctx, *ref, []string{"config"}, &vm); err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestTheDescriptorHasTheProperties(t *testing.T) {
	path, _ := written(t)
	_, texts := unpacked(t, path)
	e, err := ovf.Unmarshal(bytes.NewReader(texts["hyper2kvm.ovf"]))
	if err != nil {
		t.Fatal(err)
	}
	p := e.VirtualSystem.Product[0]
	if p.Version != sample.Version || len(p.Property) != 2 || p.Property[0].Key != "hostname" || *p.Property[0].Description != sample.Properties[0].Description || p.Property[1].Password == nil || !*p.Property[1].Password {
		t.Errorf("got %+v", p)
	}
	hw := e.VirtualSystem.VirtualHardware[0]
	if *hw.Transport != "com.vmware.guestInfo" {
		t.Errorf("properties come by %s", *hw.Transport)
	}
	settings := map[string]string{}
	for _, c := range append(hw.Config, hw.ExtraConfig...) {
		settings[c.Key] = c.Value
	}
	if want := map[string]string{"firmware": "efi", "nestedHVEnabled": "true", "tools.syncTimeWithHost": "false", "disk.EnableUUID": "TRUE"}; !cmp.Equal(settings, want) {
		t.Error(cmp.Diff(want, settings))
	}
}
