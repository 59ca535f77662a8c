package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
)

// The sample guest, a VM in vSphere that runs on, given over to systemd-networkd with
// DHCP by an approved plan: its lease is proved from outside, in a rehearsal that copies
// nothing, and reads but the blocks that are touched.
func TestAGuestOnDHCPIsProvedByARehearsal(t *testing.T) {
	g := guestUnderTest(t)
	planned, err := run(t, filepath.Join(t.TempDir(), "plan"), pipeline.Options{Source: g.VMX, Until: "plan"})
	if err != nil {
		t.Fatal(err)
	}
	approved := *planned.Plan
	approved.Changes = slices.Concat(approved.Changes, overToDHCP(t, g.VMDK))
	folder := filepath.Join(t.TempDir(), "dhcp")
	s, vm := inVSphere(t, g)
	r, err := runFrom(t, folder, pipeline.Options{Source: "vsphere://vc/" + g.Name, Plan: &approved, Skip: map[string]string{"convert": "this is a rehearsal"}}, origin(t, s, vm, folder, true))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("read: %+v", r.Carried)
	if c := r.Carried[0]; c.By != "https" || c.Read == 0 || c.Read > c.Size/2 {
		t.Errorf("the disk came as %+v", c)
	}
	if list, left := namesOf(t, s), s.Leaks(); list != g.Name+" on" || len(left) > 0 {
		t.Errorf("the server has %s, and left there is %q", list, left)
	}
	if n := r.Expect.NICs; len(n) != 1 || !n[0].DHCP || len(n[0].Static) > 0 {
		t.Errorf("the proof asked for %+v", n)
	}
	for _, a := range r.Outcome.Answers {
		t.Logf("%-28s %s", a.Name, a.Evidence)
	}
	if disks, err := filepath.Glob(filepath.Join(folder, "*.qcow2")); err != nil || len(disks) > 0 {
		t.Errorf("a rehearsal left disks: %v, %v", disks, err)
	}
}

func overToDHCP(t *testing.T, source string) []guest.Change {
	t.Helper()
	g, closed := openDisk(t, source)
	defer closed()
	v := guest.NewView(g)
	v.As("test/dhcp", "to be addressed by DHCP")
	for _, err := range []error{
		v.Write("/etc/network/interfaces", []byte("auto lo\niface lo inet loopback\n")),
		v.Write("/etc/systemd/network/20-lan.network", []byte("[Match]\nName=ens192\n\n[Network]\nDHCP=ipv4\n")),
		v.Link("/lib/systemd/system/systemd-networkd.service", "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return v.Changes()
}
