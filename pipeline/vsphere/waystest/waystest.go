// Package waystest puts the disks of a vmwaretest server where each transport looks for
// them: behind an ESXi host's SSH server, before a stand-in for VMware's library, and at an
// appliance to which they are attached.
package waystest

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

// Ways are the transports to a server's disks, and what is known of each.
type Ways struct {
	*vmwaretest.Server
	Known []transport.Transport // nil: the usual ones
	SSH   *transport.SSH
	VDDK  string // folder of the library
	Own   string // the appliance's VM
}

// All are the transports, each with what it needs to be there.
var All = []struct {
	Name  string
	Needs func(testing.TB, *Ways)
}{
	{"https", func(testing.TB, *Ways) {}},
	{"nfc", func(testing.TB, *Ways) {}},
	{"ssh", func(t testing.TB, w *Ways) { w.OverSSH(t) }},
	{"vddk", func(t testing.TB, w *Ways) { w.ByVDDK(t) }},
	{"hotadd", func(t testing.TB, w *Ways) {
		a := w.ByHotadd(t)
		t.Cleanup(func() { a.None(t) })
	}},
}

// OverSSH has the datastores on an ESXi host's SSH server.
func (w *Ways) OverSSH(t testing.TB) *esxitest.Host {
	t.Helper()
	host := esxitest.Start(t)
	volumes := filepath.Join(host.Root, "vmfs", "volumes")
	if err := os.MkdirAll(volumes, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.Model.Map().All("Datastore") {
		ds := e.(*simulator.Datastore)
		if err := os.Symlink(ds.Summary.Url, filepath.Join(volumes, ds.Name)); err != nil {
			t.Fatal(err)
		}
	}
	w.Change("ssh", func(open Opener) Opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			if err := w.Refresh(); err != nil {
				return nil, err
			}
			return open(ctx, a, d)
		}
	})
	w.SSH = &transport.SSH{User: "root", Port: host.Address.Port, Password: func() string { return esxitest.Password }, HostKeys: host.Known(t, host.Key.PublicKey())}
	return host
}

// ByVDDK has the stand-in for VMware's library read the disks. Of a chain of files it is
// given what the chain amounts to: how VMware's own reads it is not proved. While there is
// a file of the name that is returned, its reads fail.
func (w *Ways) ByVDDK(t testing.TB) (fails string) {
	t.Helper()
	built, dir := vddktest.Need(t), t.TempDir()
	fails = filepath.Join(dir, "fails")
	for name, value := range map[string]string{"ROOT": dir, "LOG": filepath.Join(dir, "log"), "THUMBPRINT": w.ThumbprintSHA1, "PASSWORD": w.Password, "FAIL": fails} {
		t.Setenv("FAKE_VDDK_"+name, value)
	}
	w.VDDK = built.Library
	w.Change("vddk", func(open Opener) Opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			a.VDDKPlugin = built.Plugin // nbdkit's own is not installed here
			flat := filepath.Join(dir, strings.NewReplacer("[", "", "] ", "/", ".vmdk", "-flat.vmdk").Replace(d.Files[0]))
			if err := errors.Join(os.MkdirAll(filepath.Dir(flat), 0o755), os.RemoveAll(flat), os.Symlink(w.RawOf(t, d.Files[0]), flat)); err != nil {
				return nil, err
			}
			return open(ctx, a, d)
		}
	})
	return fails
}

// Opener opens a disk, as a Transport does.
type Opener = func(context.Context, transport.Access, transport.Disk) (disk.Remote, error)

// Change puts something before a transport.
func (w *Ways) Change(name string, wrap func(Opener) Opener) {
	if w.Known == nil {
		w.Known = transport.Transports()
	}
	for i, t := range w.Known {
		if t.Name == name {
			w.Known[i].Open = wrap(t.Open)
		}
	}
}

// Appliance is a VM of the server's that stands for the one that this program runs in:
// disks that are attached to it come to a folder in place of /sys and /dev. That a kernel
// shows them so it does not prove.
type Appliance struct {
	Sys, Dev string // folders

	t      testing.TB
	vm     types.ManagedObjectReference
	mu     sync.Mutex
	there  map[string]string // names of devices by the disks' paths
	came   int
	broken atomic.Bool
}

// ByHotadd has an appliance.
func (w *Ways) ByHotadd(t testing.TB) *Appliance {
	t.Helper()
	a := &Appliance{Sys: filepath.Join(t.TempDir(), "sys"), Dev: t.TempDir(), t: t, there: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(a.Sys, "block"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.OnAttach, w.OnDetach = a.comes, a.goes
	vm := vmwaretest.VM{Name: "appliance", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}}
	vm.Also = func(m *mo.VirtualMachine) { m.Config.Flags.DiskUuidEnabled = types.NewBool(true) }
	vm = w.AddVM(t, vm)
	a.vm, w.Own = vm.Ref, vm.Ref.Value
	w.Change("hotadd", func(Opener) Opener {
		return func(ctx context.Context, access transport.Access, d transport.Disk) (disk.Remote, error) {
			r, err := transport.Hotadd(a.Sys, a.Dev).Open(ctx, access, d)
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
	of *Appliance
}

// Read implements disk.Remote.
func (d device) Read(ctx context.Context, p []byte, off int64) error {
	if d.of.broken.Load() {
		return syscall.EIO
	}
	return d.Remote.Read(ctx, p, off)
}

// Pull has reads of all disks fail, as a kernel does when a disk is gone.
func (a *Appliance) Pull() { a.broken.Store(true) }

func (a *Appliance) comes(d vmwaretest.Attachment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d.VM != a.vm {
		return
	}
	name := "sd" + string(rune('b'+a.came))
	a.came++
	a.there[d.Path] = name
	serial := strings.ToLower(strings.ReplaceAll(d.UUID, "-", ""))
	about := filepath.Join(a.Sys, "block", name, "device")
	err := errors.Join(os.MkdirAll(about, 0o755), os.WriteFile(filepath.Join(about, "wwid"), []byte("naa."+serial+"\n"), 0o644),
		os.Symlink(d.Raw, filepath.Join(a.Dev, name)))
	if err != nil {
		a.t.Error(err)
	}
}

func (a *Appliance) goes(d vmwaretest.Attachment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := a.there[d.Path]
	if d.VM != a.vm || name == "" {
		return
	}
	delete(a.there, d.Path)
	if err := errors.Join(os.RemoveAll(filepath.Join(a.Sys, "block", name)), os.Remove(filepath.Join(a.Dev, name))); err != nil {
		a.t.Error(err)
	}
}

// None checks that disks came and went.
func (a *Appliance) None(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.there) > 0 {
		t.Errorf("still attached to the appliance are %v", a.there)
	}
}
