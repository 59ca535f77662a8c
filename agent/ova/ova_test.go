package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

var sample = Appliance{Name: "hyper2kvm", Version: "1.0 <beta> & more", CPUs: 4, MemoryMiB: 8192, Capacity: 64 << 20,
	Properties: []firstboot.Property{
		{Key: "hostname", Type: "string", Qualifiers: "MaxLen(64)", Label: "Host name", Description: `What it is called; "none": by DHCP`},
		{Key: "token", Type: "string", Label: "Token", Description: "To join with", Password: true},
	}}

// written is the sample, and the raw disk in it.
func written(t *testing.T) (path string, raw []byte) {
	t.Helper()
	return writtenAs(t, sample)
}

func writtenAs(t *testing.T, a Appliance) (path string, raw []byte) {
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
	if err := Write(t.Context(), a, image, path); err != nil {
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
		vm := imported(t, ctx, c, path, map[string]string{"hostname": "h1"})
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

// TestFirstBootReadsWhatWasAskedAtTheImport: values that are given to the importer come
// to the machine's vApp properties, and first boot takes them from the OVF environment
// that is made of those. The environment is in the form in which govc makes one, since
// the simulator makes none: what an ESXi host writes is not proved.
func TestFirstBootReadsWhatWasAskedAtTheImport(t *testing.T) {
	a := sample
	a.Properties = firstboot.Properties()
	path, _ := writtenAs(t, a)
	asked := map[string]string{"hostname": "mover7.example.org", "address": "192.0.2.17/24", "gateway": "192.0.2.1",
		"dns": "192.0.2.53", "ntp": "ntp.example.org", "settings": `{log: {level: "debug"}} # <&>`}
	env := ovf.Env{Platform: &ovf.PlatformSection{}, Property: &ovf.PropertySection{}}
	simulator.Test(func(ctx context.Context, c *vim25.Client) {
		for _, p := range imported(t, ctx, c, path, asked).Config.VAppConfig.GetVmConfigInfo().Property {
			value := new(strings.Builder)
			if p.Value == "" {
				p.Value = p.DefaultValue
			}
			if err := xml.EscapeText(value, []byte(p.Value)); err != nil {
				t.Fatal(err)
			}
			env.Property.Properties = append(env.Property.Properties, ovf.EnvProperty{Key: p.Id, Value: value.String()})
		}
	})
	if len(env.Property.Properties) != len(a.Properties) {
		t.Errorf("the machine has %d properties, and the appliance %d", len(env.Property.Properties), len(a.Properties))
	}
	root := t.TempDir()
	card := filepath.Join(root, "sys/class/net/eth0")
	if err := os.MkdirAll(filepath.Join(card, "device"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"type": "1", "address": "00:50:56:01:02:03", "addr_assign_type": "0", "device/vendor": "0x15ad"} {
		if err := os.WriteFile(filepath.Join(card, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := firstboot.Boot{Root: root, GuestInfo: func(_ context.Context, name string) (string, error) {
		if name == "guestinfo.ovfEnv" {
			return env.MarshalManual(), nil
		}
		return "", nil
	}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var applied []string
	for _, a := range r.Applied {
		applied = append(applied, a.Key)
		if a.Value != "" && a.Value != asked[a.Key] {
			t.Errorf("%s is %q, and %q was asked for", a.Key, a.Value, asked[a.Key])
		}
	}
	slices.Sort(applied)
	if want := slices.Sorted(maps.Keys(asked)); !slices.Equal(applied, want) || len(r.Problems) > 0 || r.Network != "192.0.2.17/24 on eth0 (00:50:56:01:02:03)" {
		t.Errorf("it took %q of %q; %q; %q", applied, want, r.Network, r.Problems)
	}
}

func imported(t *testing.T, ctx context.Context, c *vim25.Client, path string, values map[string]string) (vm mo.VirtualMachine) {
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
	o := importer.Options{DiskProvisioning: "thin", NetworkMapping: []importer.Network{{Name: "Management", Network: "VM Network"}}}
	for k, v := range values {
		o.PropertyMapping = append(o.PropertyMapping, importer.Property{KeyValue: importer.KeyValue{Key: k, Value: v}})
	}
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
