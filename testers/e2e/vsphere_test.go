package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/pipeline/vsphere/waystest"
	"hyper2kvm/testers/guests"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/vmwaretest"
)

// inVSphere is a server that has a guest as a VM that runs, with the hardware of its
// VMX file. Its disks are the guest's.
func inVSphere(t *testing.T, g guests.Guest) (*waystest.Ways, vmwaretest.VM) {
	t.Helper()
	m, err := source.Read(t.Context(), g.VMX, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := vmwaretest.Start(t, vmwaretest.Options{Datastores: []string{"fast + ssd"}})
	vm := vmwaretest.VM{Name: g.Name, Folder: "Prod", EFI: m.Firmware == machine.UEFI, SecureBoot: m.SecureBoot, CPUs: int32(m.CPUs), Memory: m.Memory, On: true}
	for i, d := range m.Disks {
		raw := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d.raw", i))
		if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", d.Format, "-O", "raw", d.Path, raw); err != nil {
			t.Fatal(err)
		}
		vm.Disks = append(vm.Disks, vmwaretest.Disk{Raw: raw, Link: true})
	}
	var extra []types.BaseOptionValue
	for i, n := range m.NICs {
		vm.NICs = append(vm.NICs, vmwaretest.NIC{MAC: n.MAC})
		extra = append(extra, &types.OptionValue{Key: fmt.Sprintf("ethernet%d.pciSlotNumber", i), Value: strconv.Itoa(n.Slot)})
	}
	vm.Also = func(v *mo.VirtualMachine) { v.Config.ExtraConfig = append(v.Config.ExtraConfig, extra...) }
	return &waystest.Ways{Server: s}, s.AddVM(t, vm)
}

// origin is the VM as a migration's.
func origin(t *testing.T, s *waystest.Ways, vm vmwaretest.VM, folder string, live bool, transports ...string) *vsphere.Origin {
	t.Helper()
	o, err := vsphere.New(vsphere.Config{VM: vm.Name, Folder: folder, Live: live, Transports: transports, Log: testLog(t), Power: vmware.PowerPolicy{Force: true},
		Marks: vmware.Marks{Rename: "{name}-migrated", DisconnectNICs: true},
		Known: s.Known, SSH: s.SSH, VDDK: s.VDDK, Own: s.Own,
		Server: vmware.Config{Server: s.URL.Host, User: s.User, Password: vmware.Secret(s.Password), Thumbprint: s.ThumbprintSHA1,
			Resolve: map[string]string{"DC0_C0_H0": "127.0.0.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestAGuestIsMigratedFromVSphereAndProved shuts the VM down, reads it in each way, and
// marks it when its result has booted.
func TestAGuestIsMigratedFromVSphereAndProved(t *testing.T) {
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("the sample guest is rehearsed from vSphere: set NEED_VMS=matrix")
	}
	g := guestUnderTest(t)
	for _, way := range waystest.All {
		t.Run(way.Name, func(t *testing.T) {
			s, vm := inVSphere(t, g)
			way.Needs(t, s)
			folder := filepath.Join(t.TempDir(), g.Name)
			r, err := runFrom(t, folder, pipeline.Options{Source: "vsphere://vc/" + g.Name}, origin(t, s, vm, folder, false, way.Name))
			if err != nil {
				t.Fatal(err)
			}
			answered(t, r, g)
			if r.Carried[0].By != way.Name {
				t.Errorf("it came by %+v", r.Carried)
			}
			if list, err := r.Verify(t.Context(), true); err != nil || len(list) != 2 {
				t.Errorf("the bytes are %+v, %v", list, err)
			}
			list := namesOf(t, s)
			if !strings.Contains(list, g.Name+"-migrated off") {
				t.Errorf("the server has %s", list)
			}
			if left := s.Leaks(); len(left) > 0 {
				t.Errorf("left is %q", left)
			}
		})
	}
}

// namesOf are the VMs' names and whether they run.
func namesOf(t *testing.T, s *waystest.Ways) string {
	t.Helper()
	session, err := vmware.Connect(t.Context(), vmware.Config{Server: s.URL.Host, User: s.User, Password: vmware.Secret(s.Password), Thumbprint: s.ThumbprintSHA1})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(t.Context())
	var all []string
	for vm, err := range session.VMs(t.Context(), vmware.Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, vm.Name+" "+string(vm.Power))
	}
	return strings.Join(all, ", ")
}
