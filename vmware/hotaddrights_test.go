package vmware

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// What a check says is held against what the server then allows.
func TestTheRightsForACloneAreAskedWhereItWillLie(t *testing.T) {
	for name, c := range map[string]struct {
		besideSource bool // the rights are on the source's folder, and not on the appliance's
		level        Level
		says         string
	}{
		"on the appliance's folder": {false, OK, "has what hotadd needs"},
		"on the source's folder":    {true, Blocker, "VirtualMachine.Inventory.CreateFromExisting on appliance folder Appliances"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, vmwaretest.Options{})
			r.own = r.AddVM(t, vmwaretest.VM{Name: "mover", Folder: "Appliances", Disks: []vmwaretest.Disk{{Size: 1 << 20}}, Also: withSerials, On: true})
			r.source = r.AddVM(t, vmwaretest.VM{Name: "web02", Folder: "Web", Disks: []vmwaretest.Disk{{Size: 4 << 20}}})
			snapshot, err := r.hand(t, new(pages)).Snapshot(context.Background(), r.source.Ref.Value, SnapshotPolicy{Spare: 1})
			if err != nil {
				t.Fatal(err)
			}
			h := r.handOf(t, "mover", c.besideSource)
			pretend(t, "VMware, Inc.", r.vm(r.own).Config.Uuid)
			by := checked(t, h.Session, Asked{VMs: []VM{{Ref: r.source.Ref.Value, Name: "web02"}}, Purposes: []Purpose{ForHotadd}})
			wantFinding(t, by, "vsphere/privileges-hotadd", c.level, c.says)
			a, err := r.attach(h, snapshot.Snapshot, 0)
			if c.besideSource {
				wantError(t, err, ErrPrivilege, "CreateFromExisting")
				return
			}
			if err := errors.Join(err, h.Detach(context.Background(), a)); err != nil {
				t.Error(err)
			}
		})
	}
}

// handOf is one of a user with the rights for hotadd, but on one folder alone.
func (r *rig) handOf(t *testing.T, user string, besideSource bool) *Hand {
	t.Helper()
	own, source := r.vm(r.own), r.vm(r.source)
	folder := *own.Parent
	if besideSource {
		folder = *source.Parent
	}
	r.AddUser(user, "pw")
	for _, on := range append([]types.ManagedObjectReference{folder, own.Self, source.Self, *own.ResourcePool}, source.Datastore...) {
		r.Grant(t, user, on, true, Privileges(ForHotadd)...)
	}
	s, err := Connect(context.Background(), Config{Server: r.URL.Host, User: user, Password: "pw", Thumbprint: r.ThumbprintSHA1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return &Hand{Session: s, Migration: migration, Ledger: new(pages), Log: slog.New(slog.DiscardHandler), Patience: 2 * time.Second}
}
