package vsphere

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/vmware/transport"
	"hyper2kvm/vmware/transport/esxitest"
	"hyper2kvm/vmware/transport/vddktest"
	"hyper2kvm/vmware/vmwaretest"
)

// folders are where the datastores are on this machine, by name.
func (l *lab) folders() map[string]string {
	all := map[string]string{}
	for _, e := range l.Model.Map().All("Datastore") {
		ds := e.(*simulator.Datastore)
		all[ds.Name] = ds.Summary.Url
	}
	return all
}

// overSSH has the datastores on an ESXi host's SSH server.
func (l *lab) overSSH(t *testing.T) *esxitest.Host {
	t.Helper()
	host := esxitest.Start(t)
	volumes := filepath.Join(host.Root, "vmfs", "volumes")
	mount(t, volumes, l.folders())
	l.change("ssh", func(open opener) opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			if err := l.Refresh(); err != nil {
				return nil, err
			}
			return open(ctx, a, d)
		}
	})
	l.ssh = &transport.SSH{User: "root", Port: host.Address.Port, Password: func() string { return esxitest.Password }, HostKeys: host.Known(t, host.Key.PublicKey())}
	return host
}

func mount(t *testing.T, at string, folders map[string]string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, folder := range folders {
		if err := os.Symlink(folder, filepath.Join(at, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// byVDDK has the stand-in for VMware's library read the disks. Of a chain of files it is
// given what the chain amounts to: how VMware's own reads it is not proved. While there is
// a file of the name that is returned, its reads fail.
func (l *lab) byVDDK(t *testing.T) (fails string) {
	t.Helper()
	built, dir := vddktest.Need(t), t.TempDir()
	fails = filepath.Join(dir, "fails")
	for name, value := range map[string]string{"ROOT": dir, "LOG": filepath.Join(dir, "log"), "THUMBPRINT": l.ThumbprintSHA1, "PASSWORD": l.Password, "FAIL": fails} {
		t.Setenv("FAKE_VDDK_"+name, value)
	}
	l.vddk = built.Library
	l.change("vddk", func(open opener) opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			a.VDDKPlugin = built.Plugin // nbdkit's own is not installed here
			flat := filepath.Join(dir, strings.NewReplacer("[", "", "] ", "/", ".vmdk", "-flat.vmdk").Replace(d.Files[0]))
			if err := errors.Join(os.MkdirAll(filepath.Dir(flat), 0o755), os.RemoveAll(flat), os.Symlink(l.RawOf(t, d.Files[0]), flat)); err != nil {
				return nil, err
			}
			return open(ctx, a, d)
		}
	})
	return fails
}

type opener = func(context.Context, transport.Access, transport.Disk) (disk.Remote, error)

// change puts something before a transport.
func (l *lab) change(name string, wrap func(opener) opener) {
	if l.known == nil {
		l.known = transport.Transports()
	}
	for i, t := range l.known {
		if t.Name == name {
			l.known[i].Open = wrap(t.Open)
		}
	}
}

// appliance is a VM of the server's that stands for the one that this program runs in:
// disks that are attached to it come to a folder in place of /sys and /dev. That a kernel
// shows them so it does not prove.
type appliance struct {
	t        *testing.T
	sys, dev string
	vm       types.ManagedObjectReference
	mu       sync.Mutex
	there    map[string]string // names of devices by the disks' paths
	came     int
	broken   atomic.Bool
}

// byHotadd has an appliance.
func (l *lab) byHotadd(t *testing.T) *appliance {
	t.Helper()
	a := &appliance{t: t, sys: filepath.Join(t.TempDir(), "sys"), dev: t.TempDir(), there: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(a.sys, "block"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.OnAttach, l.OnDetach = a.comes, a.goes
	vm := vmwaretest.VM{Name: "appliance", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}}
	vm.Also = func(m *mo.VirtualMachine) { m.Config.Flags.DiskUuidEnabled = types.NewBool(true) }
	vm = l.AddVM(t, vm)
	a.vm, l.own = vm.Ref, vm.Ref.Value
	l.change("hotadd", func(opener) opener {
		return func(ctx context.Context, access transport.Access, d transport.Disk) (disk.Remote, error) {
			r, err := transport.Hotadd(a.sys, a.dev).Open(ctx, access, d)
			if err != nil {
				return nil, err
			}
			return device{r, a}, nil
		}
	})
	return a
}

// device is a disk of the appliance's that can be pulled out.
type device struct {
	disk.Remote
	of *appliance
}

// Read implements disk.Remote.
func (d device) Read(ctx context.Context, p []byte, off int64) error {
	if d.of.broken.Load() {
		return syscall.EIO
	}
	return d.Remote.Read(ctx, p, off)
}

// pulled has reads of all disks fail, as a kernel does when a disk is gone.
func (a *appliance) pulled() { a.broken.Store(true) }

func (a *appliance) comes(d vmwaretest.Attachment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.VM != a.vm {
		return
	}
	name := "sd" + string(rune('b'+a.came))
	a.came++
	a.there[d.Path] = name
	serial := strings.ToLower(strings.ReplaceAll(d.UUID, "-", ""))
	about := filepath.Join(a.sys, "block", name, "device")
	err := errors.Join(os.MkdirAll(about, 0o755), os.WriteFile(filepath.Join(about, "wwid"), []byte("naa."+serial+"\n"), 0o644),
		os.Symlink(d.Raw, filepath.Join(a.dev, name)))
	if err != nil {
		a.t.Error(err)
	}
}

func (a *appliance) goes(d vmwaretest.Attachment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := a.there[d.Path]
	if d.VM != a.vm || name == "" {
		return
	}
	delete(a.there, d.Path)
	if err := errors.Join(os.RemoveAll(filepath.Join(a.sys, "block", name)), os.Remove(filepath.Join(a.dev, name))); err != nil {
		a.t.Error(err)
	}
}

// none checks that disks came and went.
func (a *appliance) none(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.there) > 0 {
		t.Errorf("still attached to the appliance are %v", a.there)
	}
}
