package vsphere

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/vsphere/waystest"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/vmwaretest"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(child(text))
	}
	status := m.Run()
	if small.dir != "" {
		os.RemoveAll(small.dir)
	}
	os.Exit(status)
}

// small is the guest's first disk, which is made once: no server writes to it.
var small struct {
	once sync.Once
	dir  string
	raw  string
	err  error
}

func smallGuest(t *testing.T) string {
	t.Helper()
	needTools(t, "mke2fs", "sfdisk", "qemu-img", "qemu-storage-daemon")
	small.once.Do(func() {
		small.dir, small.err = os.MkdirTemp("", "h2k-vsphere")
		small.raw = filepath.Join(small.dir, "small.raw")
		small.err = errors.Join(small.err, guesttest.Small(context.Background(), small.raw, guesttest.SmallFstab))
	})
	if small.err != nil {
		t.Fatal(small.err)
	}
	return small.raw
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

// lab is a server with a VM that runs, and the folder of its migration.
type lab struct {
	*waystest.Ways
	vm     vmwaretest.VM
	folder string
	holds  []string // files with what the VM's disks hold
	by     []string // names of the transports that are used

	user, password string // that the migration logs in with
}

// Names that URLs, shells and VMware's own paths trip over.
const (
	oddVM   = `wéb/01 'a+b' 100%`
	oddFast = `fast + "ssd" 5%`
)

// newLab has a VM with two disks on two datastores, all with names that are hard to say.
func newLab(t *testing.T, change func(*vmwaretest.VM)) *lab {
	t.Helper()
	return newLabAt(t, vmwaretest.Options{}, change)
}

func newLabAt(t *testing.T, o vmwaretest.Options, change func(*vmwaretest.VM)) *lab {
	t.Helper()
	raw := smallGuest(t)
	o.Datastores = []string{oddFast, "lün"}
	l := &lab{Ways: &waystest.Ways{Server: vmwaretest.Start(t, o)}, folder: filepath.Join(t.TempDir(), "small"), by: []string{"https"}}
	l.user, l.password = l.User, l.Password
	vm := vmwaretest.VM{Name: oddVM, Folder: "Prod/Web", On: true, CBT: true, Disks: []vmwaretest.Disk{{Raw: raw}, {Size: 8 << 20, Datastore: "lün"}},
		NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}}}
	if o.ESX {
		vm.Folder = ""
	}
	if change != nil {
		change(&vm)
	}
	l.vm = l.AddVM(t, vm)
	for i, d := range l.vm.Disks {
		l.hold(t, i, d)
	}
	l.write(t, 1, 3<<20, []byte("a line of the data disk's"))
	return l
}

// hold makes the file with what a disk holds.
func (l *lab) hold(t *testing.T, i int, d vmwaretest.Disk) {
	t.Helper()
	var text []byte
	var err error
	if d.Raw != "" {
		if text, err = os.ReadFile(d.Raw); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), string(rune('a'+i)))
	if err := errors.Join(os.WriteFile(file, text, 0o600), os.Truncate(file, d.Size)); err != nil {
		t.Fatal(err)
	}
	l.holds = append(l.holds, file)
}

// write writes to a disk as its guest does, and notes that.
func (l *lab) write(t *testing.T, i int, off int64, p []byte) {
	t.Helper()
	l.scribble(t, i, off, p)
	f, err := os.OpenFile(l.holds[i], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// scribble writes to a disk what is not to be seen.
func (l *lab) scribble(t *testing.T, i int, off int64, p []byte) {
	t.Helper()
	l.GuestWrite(t, l.vm.Ref, l.vm.Disks[i].Key, off, p)
}

func (l *lab) config() Config {
	return Config{Server: vmware.Config{Server: l.URL.Host, User: l.user, Password: vmware.Secret(l.password), Thumbprint: l.ThumbprintSHA256,
		Resolve: map[string]string{"DC0_C0_H0": "127.0.0.1", "localhost.localdomain": "127.0.0.1"}},
		VM: l.vm.Ref.Value, Folder: l.folder, Log: slog.New(slog.DiscardHandler), Transports: l.by, Known: l.Known, SSH: l.SSH, VDDK: l.VDDK, Own: l.Own}
}

type change func(*Config, *pipeline.Options, *pipeline.Config)

// run opens the migration, or goes on with it.
func (l *lab) run(t *testing.T, changes ...change) *pipeline.Run {
	t.Helper()
	c, p := l.config(), pipeline.Config{Folder: l.folder, Version: "test", Log: slog.New(slog.DiscardHandler)}
	o := pipeline.Options{Source: "vsphere://vc/web01", Shape: disk.Shape{Format: disk.Raw}, Engine: pipeline.Direct, Skip: map[string]string{"test": "not part of this"}}
	for _, change := range changes {
		if change != nil {
			change(&c, &o, &p)
		}
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

// live leaves the VM running.
func live(c *Config, _ *pipeline.Options, _ *pipeline.Config) { c.Live = true }

// before calls something before a stage.
func before(stage string, do func() error) change {
	return func(_ *Config, _ *pipeline.Options, p *pipeline.Config) {
		p.Before = func(_ *pipeline.Migration, s string) error {
			if s != stage {
				return nil
			}
			return do()
		}
	}
}

// power has somebody power the VM on or off.
func (l *lab) power(ctx context.Context, to types.VirtualMachinePowerState) error {
	vm := object.NewVirtualMachine(l.Client, l.vm.Ref)
	turn := vm.PowerOn
	if to == off {
		turn = vm.PowerOff
	}
	task, err := turn(ctx)
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// wants checks how the VM is, and that nothing was left at the server.
func (l *lab) wants(t *testing.T, power types.VirtualMachinePowerState) {
	t.Helper()
	var vm mo.VirtualMachine
	if err := object.NewVirtualMachine(l.Client, l.vm.Ref).Properties(t.Context(), l.vm.Ref, []string{"runtime.powerState"}, &vm); err != nil {
		t.Fatal(err)
	}
	if vm.Runtime.PowerState != power {
		t.Errorf("the VM is %s, want %s", vm.Runtime.PowerState, power)
	}
	l.leaves(t)
}

// leaves checks that nothing was left at the server.
func (l *lab) leaves(t *testing.T) {
	t.Helper()
	if left := l.Leaks(); len(left) != 0 {
		t.Errorf("left at the server: %q", left)
	}
}

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)
