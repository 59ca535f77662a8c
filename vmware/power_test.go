package vmware

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// powerRig has a VM that runs and whose guest is as v says.
func powerRig(t *testing.T, v vmwaretest.VM) (*rig, vmwaretest.VM, *Hand, *pages) {
	t.Helper()
	r := newRig(t, vmwaretest.Options{})
	v.Name, v.On = "guest", true
	v = r.AddVM(t, v)
	if !v.NoTools {
		r.vm(v).Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	}
	ledger := new(pages)
	return r, v, r.hand(t, ledger), ledger
}

func (r *rig) state(v vmwaretest.VM) Power { return powerStates[r.vm(v).Runtime.PowerState] }

func TestAVMIsShutDownAsItsPolicySays(t *testing.T) {
	short := PowerPolicy{Wait: 50 * time.Millisecond}
	force := PowerPolicy{Wait: 50 * time.Millisecond, Force: true}
	for name, c := range map[string]struct {
		vm     vmwaretest.VM
		policy PowerPolicy
		err    error
		state  Power
		traces string
	}{
		"its guest does it":                   {vmwaretest.VM{}, PowerPolicy{}, nil, Off, "power made"},
		"no tools, and it is asked":           {vmwaretest.VM{NoTools: true}, PowerPolicy{}, ErrNeedsPowerOff, On, ""},
		"no tools, and it may be powered off": {vmwaretest.VM{NoTools: true}, force, nil, Off, "power made"},
		"deaf, and it is asked":               {vmwaretest.VM{IgnoresShutdown: true}, short, ErrNeedsPowerOff, On, "power noted"},
		"deaf, and it may be powered off":     {vmwaretest.VM{IgnoresShutdown: true}, force, nil, Off, "power made"},
		"slow, but in time":                   {vmwaretest.VM{ShutdownTakes: 50 * time.Millisecond}, PowerPolicy{Wait: 5 * time.Second}, nil, Off, "power made"},
	} {
		t.Run(name, func(t *testing.T) {
			r, v, h, ledger := powerRig(t, c.vm)
			if err := h.Shutdown(context.Background(), v.Ref.Value, c.policy); !errors.Is(err, c.err) {
				t.Fatalf("Shutdown = %v, want %v", err, c.err)
			}
			if got := strings.Join(ledger.states(), ", "); r.state(v) != c.state || got != c.traces {
				t.Errorf("it is %s with %q noted, want %s with %q", r.state(v), got, c.state, c.traces)
			}
			if err := h.Shutdown(context.Background(), v.Ref.Value, force); err != nil {
				t.Error("again, by force:", err)
			}
			if err := h.Restore(context.Background()); err != nil || r.state(v) != On {
				t.Errorf("it is %s after Restore: %v", r.state(v), err)
			}
		})
	}
}

func TestAVMThatIsOffStaysOff(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	off := r.AddVM(t, vmwaretest.VM{Name: "off"})
	ledger := new(pages)
	h := r.hand(t, ledger)
	if err := h.Shutdown(context.Background(), off.Ref.Value, PowerPolicy{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(context.Background()); err != nil || r.state(off) != Off || strings.Join(ledger.states(), ", ") != "power undone" {
		t.Errorf("it is %s with %q noted: %v", r.state(off), ledger.states(), err)
	}
}

func TestASuspendedVMIsRefused(t *testing.T) {
	r, v, h, ledger := powerRig(t, vmwaretest.VM{})
	r.vm(v).Runtime.PowerState = types.VirtualMachinePowerStateSuspended
	err := h.Shutdown(context.Background(), v.Ref.Value, PowerPolicy{Force: true})
	if !errors.Is(err, ErrSuspended) || len(ledger.list) != 0 {
		t.Errorf("Shutdown = %v, %q noted", err, ledger.states())
	}
}

func TestWhoPowersTheSourceOnIsNoticed(t *testing.T) {
	r, v, h, _ := powerRig(t, vmwaretest.VM{Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	ctx := context.Background()
	if err := h.Shutdown(ctx, v.Ref.Value, PowerPolicy{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Session.StillOff(ctx, v.Ref.Value); err != nil {
		t.Fatal(err)
	}
	if err := h.powerOn(ctx, v.Ref); err != nil {
		t.Fatal(err)
	}
	_, export := h.Export(ctx, v.Ref.Value, "", v.Disks[0].Key)
	for what, err := range map[string]error{"StillOff": h.Session.StillOff(ctx, v.Ref.Value), "Export": export,
		"Mark": h.Mark(ctx, v.Ref.Value, Marks{Rename: "{name}-moved"})} {
		if !errors.Is(err, ErrPoweredOn) {
			t.Errorf("%s = %v, want %v", what, err, ErrPoweredOn)
		}
	}
	if err := h.Restore(ctx); err != nil || r.vm(v).Name != "guest" {
		t.Errorf("Restore = %v, and it is called %s", err, r.vm(v).Name)
	}
}

func TestWhoPoweredTheSourceOnAndOffAgainIsNoticed(t *testing.T) {
	for name, was := range map[string]Power{"it was shut down": On, "it was off": Off} {
		t.Run(name, func(t *testing.T) {
			r, v, h, _ := powerRig(t, vmwaretest.VM{})
			ctx := context.Background()
			others := r.hand(t, new(pages))
			if was == Off {
				if err := others.Shutdown(ctx, v.Ref.Value, PowerPolicy{Force: true}); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.Shutdown(ctx, v.Ref.Value, PowerPolicy{}); err != nil {
				t.Fatal(err)
			}
			if err := h.StillOff(ctx, v.Ref.Value); err != nil {
				t.Fatal(err)
			}
			if err := h.powerOn(ctx, v.Ref); err != nil {
				t.Fatal(err)
			}
			if err := others.Shutdown(ctx, v.Ref.Value, PowerPolicy{Force: true}); err != nil {
				t.Fatal(err)
			}
			wantError(t, h.StillOff(ctx, v.Ref.Value), ErrPoweredOn, "guest: ", "out of date", "it is off again", "did that at 20", "begin again")
		})
	}
}

// Without the server's events it is not known whether a VM that is off was on: who asks is
// told so, and what was begun goes on.
func TestEventsThatCannotBeReadAreTold(t *testing.T) {
	r, v, h, _ := powerRig(t, vmwaretest.VM{Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	ctx := context.Background()
	if err := h.Shutdown(ctx, v.Ref.Value, PowerPolicy{}); err != nil {
		t.Fatal(err)
	}
	r.Fail(vmwaretest.Trouble{Method: "QueryEvents", Fault: &types.NoPermission{Object: &v.Ref, PrivilegeId: "System.View"}, Times: 1 << 20})
	wantError(t, h.StillOff(ctx, v.Ref.Value), ErrUnheard, "guest: ", "the server's events", "System.View")
	e, err := h.Export(ctx, v.Ref.Value, "", v.Disks[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Close(ctx, true), h.Mark(ctx, v.Ref.Value, Marks{Rename: "{name}-moved"})); err != nil {
		t.Error(err)
	}
	stopped, stop := context.WithCancelCause(ctx)
	stop(context.DeadlineExceeded)
	if err := h.StillOff(stopped, v.Ref.Value); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnheard) {
		t.Errorf("StillOff = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := h.powerOn(ctx, v.Ref); err != nil {
		t.Fatal(err)
	}
	wantError(t, h.StillOff(ctx, v.Ref.Value), ErrPoweredOn)
}

// A guest that was asked to shut down may do so when who asked it was killed long ago.
func TestAGuestThatObeysLateIsPoweredOnAgain(t *testing.T) {
	r, v, h, ledger := powerRig(t, vmwaretest.VM{ShutdownTakes: 300 * time.Millisecond})
	ctx, kill := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer kill()
	if err := h.Shutdown(ctx, v.Ref.Value, PowerPolicy{Wait: 5 * time.Second}); err == nil {
		t.Fatal("it shut down at once")
	}
	if err := r.hand(t, ledger).Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond) // longer than the guest takes
	if r.state(v) != On {
		t.Errorf("it is %s", r.state(v))
	}
}

func TestAHostInMaintenanceIsNamed(t *testing.T) {
	r, v, h, ledger := powerRig(t, vmwaretest.VM{})
	ctx := context.Background()
	if err := h.Shutdown(ctx, v.Ref.Value, PowerPolicy{}); err != nil {
		t.Fatal(err)
	}
	name := r.hostName(*r.vm(v).Runtime.Host)
	r.Maintenance(name, true)
	if err := h.Restore(ctx); !errors.Is(err, ErrMaintenance) || !strings.Contains(err.Error(), name) {
		t.Errorf("Restore = %v, want %v of %s", err, ErrMaintenance, name)
	}
	r.Maintenance(name, false)
	if err := h.Restore(ctx); err != nil || r.state(v) != On {
		t.Errorf("Restore = %v, %s, %q", err, r.state(v), ledger.states())
	}
}
