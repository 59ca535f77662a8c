package vsphere

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/vmwaretest"
)

func TestMain(m *testing.M) {
	if status, played := direct.Serve(); played {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// lab is a server with a VM that runs, and the folder of its migration.
type lab struct {
	*vmwaretest.Server
	vm     vmwaretest.VM
	folder string
}

func newLab(t *testing.T, change func(*vmwaretest.VM)) *lab {
	t.Helper()
	needTools(t, "mke2fs", "sfdisk", "qemu-img", "qemu-storage-daemon")
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	l := &lab{Server: vmwaretest.Start(t, vmwaretest.Options{Datastores: []string{"fast + ssd", "lun"}}), folder: filepath.Join(t.TempDir(), "small")}
	vm := vmwaretest.VM{Name: "wéb/01 'a+b'", Folder: "Prod/Web", On: true, CBT: true, Disks: []vmwaretest.Disk{{Raw: raw}, {Size: 8 << 20, Datastore: "lun"}},
		NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}}}
	vm.Also = func(m *mo.VirtualMachine) { m.Guest.ToolsRunningStatus = "guestToolsRunning" }
	if change != nil {
		change(&vm)
	}
	l.vm = l.AddVM(t, vm)
	return l
}

func needTools(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts disks as root: set NEED_TOOLS=1")
	}
	for _, p := range programs {
		if _, err := proc.Look(p); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *lab) config() Config {
	return Config{Server: vmware.Config{Server: l.URL.Host, User: l.User, Password: vmware.Secret(l.Password), Thumbprint: l.ThumbprintSHA256},
		VM: l.vm.Name, Folder: l.folder, Log: slog.New(slog.DiscardHandler), Transports: []string{"https"}}
}

// run opens the migration, or goes on with it.
func (l *lab) run(t *testing.T, change func(*Config, *pipeline.Options, *pipeline.Config)) *pipeline.Run {
	t.Helper()
	c, p := l.config(), pipeline.Config{Folder: l.folder, Version: "test", Log: slog.New(slog.DiscardHandler)}
	o := pipeline.Options{Source: "vsphere://vc/web01", Shape: disk.Shape{Format: disk.Raw}, Engine: pipeline.Direct, Skip: map[string]string{"test": "not part of this"}}
	if change != nil {
		change(&c, &o, &p)
	}
	origin, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Origin = origin
	r, err := pipeline.Open(p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

// wants checks how the VM is, and that nothing was left at the server.
func (l *lab) wants(t *testing.T, power types.VirtualMachinePowerState) {
	t.Helper()
	var vm mo.VirtualMachine
	if err := object.NewVirtualMachine(l.Client, l.vm.Ref).Properties(t.Context(), l.vm.Ref, []string{"runtime.powerState", "snapshot"}, &vm); err != nil {
		t.Fatal(err)
	}
	if vm.Runtime.PowerState != power || vm.Snapshot != nil {
		t.Errorf("the VM is %s with snapshots %+v, want %s and none", vm.Runtime.PowerState, vm.Snapshot, power)
	}
	if left := l.Sessions(); len(left) != 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)

// verified compares the converted disks, and what FIX did not change in them with the VM's.
func (l *lab) verified(t *testing.T, r *pipeline.Run) {
	t.Helper()
	list, err := r.Verify(t.Context(), true)
	if err != nil || len(list) != 4 {
		t.Errorf("verified are %+v, %v", list, err)
	}
}

func TestAVMIsShutDownReadAndStaysOff(t *testing.T) {
	l := newLab(t, nil)
	r := l.run(t, nil)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, r)
	l.wants(t, off)
	if len(r.Carried) != 2 || r.Carried[0].By != "https" || r.Carried[0].Read == 0 || r.Carried[1].Read > r.Carried[1].Size/2 {
		t.Errorf("the disks came as %+v", r.Carried)
	}
	if m := r.Machine; m.NICs[0].MAC != "00:50:56:01:02:03" || m.Name != l.vm.Name || m.Disks[0].Path != l.vm.Disks[0].Path {
		t.Errorf("its record is %+v", m)
	}
	if owes, err := Owes(l.folder); err != nil || !owes { // that it was on
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	names, err := Restore(t.Context(), l.config())
	if err != nil || strings.Join(names, ", ") != "power of "+l.vm.Name {
		t.Errorf("taken back are %q, %v", names, err)
	}
	l.wants(t, on)
}

func TestAVMWhoseMigrationFailsRunsAgain(t *testing.T) {
	l := newLab(t, nil)
	failing := errors.New("the target is on fire")
	r := l.run(t, func(_ *Config, _ *pipeline.Options, p *pipeline.Config) {
		p.Before = func(_ *pipeline.Migration, stage string) error {
			if stage == "convert" {
				return failing
			}
			return nil
		}
	})
	if err := r.Go(t.Context()); !errors.Is(err, failing) || !r.Returned {
		t.Errorf("Go = %v, returned %v", err, r.Returned)
	}
	l.wants(t, on)
	if owes, err := Owes(l.folder); err != nil || owes {
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t, nil)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, again)
}

func TestAnInterruptedMigrationGoesOnWithAVMThatStayedOff(t *testing.T) {
	l := newLab(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	r := l.run(t, func(_ *Config, _ *pipeline.Options, p *pipeline.Config) {
		p.Before = func(_ *pipeline.Migration, stage string) error {
			if stage == "convert" {
				stop()
				return context.Cause(ctx)
			}
			return nil
		}
	})
	if err := r.Go(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Go = %v", err)
	}
	l.wants(t, off)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t, nil)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.verified(t, again)
}

// TestAVMThatWasStartedMeanwhileIsNotTakenForItself: what was made of it is out of date.
func TestAVMThatWasStartedMeanwhileIsNotTakenForItself(t *testing.T) {
	was := guardEvery
	guardEvery = 200 * time.Millisecond
	defer func() { guardEvery = was }()
	l := newLab(t, nil)
	r := l.run(t, func(_ *Config, _ *pipeline.Options, p *pipeline.Config) {
		p.Before = func(_ *pipeline.Migration, stage string) error {
			if stage != "convert" {
				return nil
			}
			task, err := object.NewVirtualMachine(l.Client, l.vm.Ref).PowerOn(t.Context())
			if err != nil {
				return err
			}
			return task.Wait(t.Context())
		}
	})
	if err := r.Go(t.Context()); !errors.Is(err, pipeline.ErrSourceChanged) {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrSourceChanged)
	}
	l.wants(t, on)
}

func TestAVMRunsOnWhileItIsRehearsed(t *testing.T) {
	l := newLab(t, nil)
	r := l.run(t, func(c *Config, o *pipeline.Options, _ *pipeline.Config) {
		c.Live = true
		o.Skip["convert"] = "a rehearsal"
	})
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, on)
	if owes, err := Owes(l.folder); err != nil || owes {
		t.Errorf("the folder owes %v, %v", owes, err)
	}
	if got := r.Carried[0]; got.Read == 0 || got.Read > got.Size/2 {
		t.Errorf("to rehearse it %d bytes of %d were read", got.Read, got.Size)
	}
}

func TestWhatForbidsAMigrationIsKnownBeforeAnythingIsChanged(t *testing.T) {
	l := newLab(t, func(vm *vmwaretest.VM) { vm.Disks[1].Sharing = "sharingMultiWriter" })
	r := l.run(t, nil)
	if err := r.Go(t.Context()); !errors.Is(err, pipeline.ErrBlocked) || !strings.Contains(err.Error(), "vsphere/") {
		t.Errorf("Go = %v, want %v", err, pipeline.ErrBlocked)
	}
	l.wants(t, on)
	if _, err := os.Stat(filepath.Join(l.folder, File)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was noted: %v", err)
	}
}
