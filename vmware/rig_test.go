package vmware

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const migration = "01JM-TEST"

// rig is a vCenter with a VM to move and one that is our own.
type rig struct {
	model      *simulator.Model
	server     *simulator.Server
	source     *simulator.VirtualMachine
	own        *simulator.VirtualMachine
	moveParent atomic.Bool // clones get whole disks
}

func newRig(t *testing.T) *rig {
	t.Helper()
	shortest = time.Millisecond
	r := &rig{model: simulator.VPX()}
	if err := r.model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.model.Remove)
	r.model.Service.TLS = new(tls.Config)
	r.model.Service.RegisterEndpoints = true
	r.model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword("admin", "secret")}
	r.model.Map().Handler = r.dispatch
	r.server = r.model.Service.NewServer()
	t.Cleanup(r.server.Close)
	r.own, r.source = r.vm(t, "DC0_H0_VM0"), r.vm(t, "DC0_H0_VM1")
	r.own.Config.Flags.DiskUuidEnabled = types.NewBool(true)
	r.source.Config.Annotation = "owner: web team"
	r.source.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	return r
}

func (r *rig) vm(t *testing.T, name string) *simulator.VirtualMachine {
	t.Helper()
	for _, e := range r.model.Map().All("VirtualMachine") {
		if e.Entity().Name == name {
			return e.(*simulator.VirtualMachine)
		}
	}
	t.Fatalf("no VM %q", name)
	return nil
}

func (r *rig) connect(t *testing.T) *Session {
	t.Helper()
	s, err := Connect(context.Background(), Config{Server: r.server.URL.Host, User: "admin", Password: "secret",
		Thumbprint: r.server.CertificateInfo().ThumbprintSHA1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (r *rig) hand(t *testing.T, ledger Ledger) *Hand {
	t.Helper()
	s := r.connect(t)
	t.Cleanup(func() { s.Close(context.Background()) })
	return &Hand{Session: s, Migration: migration, Ledger: ledger, Log: slog.New(slog.DiscardHandler), Patience: 2 * time.Second}
}

// override answers a call in the simulator's place: it asks for a handler of a
// reference that no object has.
type override struct {
	answer func(*simulator.Context, types.AnyType) soap.HasFault
}

func (*override) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "override", Value: "override"}
}
func (*override) Lock()   {}
func (*override) Unlock() {}
func (o *override) Answer(ctx *simulator.Context, request types.AnyType) soap.HasFault {
	return o.answer(ctx, request)
}

func (r *rig) dispatch(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	var o *override
	switch {
	case ctx.Session == nil:
	case m.Name == "CloneVM_Task":
		o = &override{r.clone}
	}
	if o == nil {
		return nil, nil
	}
	m.This, m.Name = o.Reference(), "Answer"
	return o, nil
}

// clone is the simulator's, whose disks then are children of the snapshot's, as a real
// server's are.
func (r *rig) clone(ctx *simulator.Context, request types.AnyType) soap.HasFault {
	req := request.(*types.CloneVM_Task)
	vm := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	task := simulator.CreateTask(vm, "cloneVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		var ref types.ManagedObjectReference
		ctx.WithLock(vm, func() { ref = vm.CloneVMTask(ctx, req).(*methods.CloneVM_TaskBody).Res.Returnval })
		sub := ctx.Map.Get(ref).(*simulator.Task)
		sub.Wait()
		if sub.Info.Error != nil {
			return nil, sub.Info.Error.Fault
		}
		clone := ctx.Map.Get(sub.Info.Result.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
		r.link(ctx, clone, req)
		return clone.Self, nil
	})
	var ref types.ManagedObjectReference
	ctx.WithLock(vm, func() { ref = task.Run(ctx) })
	return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: ref}}
}

func (r *rig) link(ctx *simulator.Context, clone *simulator.VirtualMachine, req *types.CloneVM_Task) {
	snap := ctx.Map.Get(*req.Spec.Snapshot).(*simulator.VirtualMachineSnapshot)
	parents := disksAmong(snap.Config.Hardware.Device)
	ctx.WithLock(clone, func() {
		clone.Config.Annotation = req.Spec.Config.Annotation
		for i, d := range disksAmong(clone.Config.Hardware.Device) {
			if !r.moveParent.Load() {
				file := parents[i].Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName
				parent := &types.VirtualDiskFlatVer2BackingInfo{}
				parent.FileName = file
				d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Parent = parent
			}
		}
	})
}
