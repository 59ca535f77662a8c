package firstboot

import (
	"os"
	"path/filepath"
	"testing"
)

// Before a driver is there, a network is written that its card will have.
func TestWithoutACardTheNetworkIsWritten(t *testing.T) {
	m := newMachine(t)
	if err := os.RemoveAll(filepath.Join(m.root, "sys/class/net")); err != nil {
		t.Fatal(err)
	}
	m.put("proc/cmdline", "hyper2kvm.address=192.0.2.10/24")
	if r := m.boot(nil); len(r.Problems) > 0 || r.Network != "192.0.2.10/24 on all network cards" {
		t.Errorf("%+v", r)
	}
	m.put("proc/cmdline", "hyper2kvm.nic=eth0")
	if r := m.boot(nil); len(r.Problems) != 2 || r.Problems[0] != fromKernel+": nic: there is no network card eth0, and no other: add one, or see dmesg" {
		t.Errorf("%q", r.Problems)
	}
}
