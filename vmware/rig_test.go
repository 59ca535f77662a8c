package vmware

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

const migration = "01JM-TEST"

// rig is a vCenter with a VM to move and one that is our own.
type rig struct {
	*vmwaretest.Server
	source, own vmwaretest.VM
}

func newRig(t *testing.T, o vmwaretest.Options) *rig {
	t.Helper()
	shortest = time.Millisecond
	r := &rig{Server: vmwaretest.Start(t, o)}
	r.own = r.AddVM(t, vmwaretest.VM{Name: "appliance", Disks: []vmwaretest.Disk{{Size: 1 << 20}},
		Also: withSerials, On: true})
	r.source = r.AddVM(t, vmwaretest.VM{Name: "web 100%2f/a", On: true, Annotation: "owner: web team",
		Disks: []vmwaretest.Disk{{Size: 4 << 20}, {Size: 8 << 20}}, NICs: []vmwaretest.NIC{{}, {}}})
	r.vm(r.source).Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	r.AddVM(t, vmwaretest.VM{Name: "old", Folder: "Moved"})
	return r
}

// withSerials is a VM whose disks show serial numbers.
func withSerials(v *mo.VirtualMachine) { v.Config.Flags.DiskUuidEnabled = types.NewBool(true) }

func (r *rig) vm(v vmwaretest.VM) *simulator.VirtualMachine {
	return r.Model.Map().Get(v.Ref).(*simulator.VirtualMachine)
}

func (r *rig) connect(t *testing.T) *Session {
	t.Helper()
	s, err := Connect(context.Background(), Config{Server: r.URL.Host, User: r.User, Password: Secret(r.Password), Thumbprint: r.ThumbprintSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hand is one of a new session, which ends with the test or before.
func (r *rig) hand(t *testing.T, ledger Ledger) *Hand {
	t.Helper()
	s := r.connect(t)
	t.Cleanup(func() { s.Close(context.Background()) })
	return &Hand{Session: s, Migration: migration, Ledger: ledger, Log: slog.New(slog.DiscardHandler), Patience: 2 * time.Second}
}

func (r *rig) hostName(ref types.ManagedObjectReference) string {
	return r.Model.Map().Get(ref).(*simulator.HostSystem).Name
}
