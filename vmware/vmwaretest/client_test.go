package vmwaretest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// logIn is a session over HTTPS, with the server's certificate pinned.
func logIn(t *testing.T, s *vmwaretest.Server, user, password string) *govmomi.Client {
	t.Helper()
	transport := soap.NewClient(s.URL, false)
	transport.SetThumbprint(s.URL.Host, s.ThumbprintSHA1)
	client, err := vim25.NewClient(context.Background(), transport)
	if err != nil {
		t.Fatal(err)
	}
	c := &govmomi.Client{Client: client, SessionManager: session.NewManager(client)}
	if err := c.Login(context.Background(), url.UserPassword(user, password)); err != nil {
		t.Fatal(err)
	}
	return c
}

// started is a server with a session.
func started(t *testing.T, o vmwaretest.Options) (*vmwaretest.Server, *govmomi.Client) {
	t.Helper()
	o.Anyone = true
	s := vmwaretest.Start(t, o)
	return s, logIn(t, s, s.User, s.Password)
}

// rawDisk is a disk of a size with bytes at its beginning, and a hole behind them.
func rawDisk(t *testing.T, size int64) (string, []byte) {
	t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content[:size/4])
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content[:size/4]); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name, content
}

// wait waits for a task that must succeed.
func wait(t *testing.T, task *object.Task, err error) *types.TaskInfo {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	info, err := task.WaitForResult(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// snapshot makes a snapshot over the wire.
func snapshot(t *testing.T, c *govmomi.Client, vm types.ManagedObjectReference, name string) types.ManagedObjectReference {
	t.Helper()
	task, err := object.NewVirtualMachine(c.Client, vm).CreateSnapshot(context.Background(), name, "", false, false)
	return wait(t, task, err).Result.(types.ManagedObjectReference)
}

// diskIn is a disk of a VM or of a snapshot, over the wire.
func diskIn(t *testing.T, c *govmomi.Client, of types.ManagedObjectReference, key int32) *types.VirtualDiskFlatVer2BackingInfo {
	t.Helper()
	var devices []types.BaseVirtualDevice
	if of.Type == "VirtualMachineSnapshot" {
		var m mo.VirtualMachineSnapshot
		properties(t, c, of, &m, "config.hardware.device")
		devices = m.Config.Hardware.Device
	} else {
		var m mo.VirtualMachine
		properties(t, c, of, &m, "config.hardware.device")
		devices = m.Config.Hardware.Device
	}
	d := object.VirtualDeviceList(devices).FindByKey(key)
	if d == nil {
		t.Fatalf("%s has no device %d", of.Value, key)
	}
	return d.(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo)
}

func properties(t *testing.T, c *govmomi.Client, of types.ManagedObjectReference, into any, names ...string) {
	t.Helper()
	if err := c.RetrieveOne(context.Background(), of, names, into); err != nil {
		t.Fatal(err)
	}
}

// sameBytes compares a file with what is wanted.
func sameBytes(t *testing.T, what, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes of %s differ from the %d wanted", what, len(got), name, len(want))
	}
}
