package vmwaretest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const nfcPrefix = "/nfc/"

// exportVM gives a lease on the disks of a VM that is off, which cannot be powered on
// as long as it lasts.
func (s *Server) exportVM(ctx *simulator.Context, req *types.ExportVm) soap.HasFault {
	vm := vmOf(ctx, req.This)
	if state := vm.Runtime.PowerState; state != types.VirtualMachinePowerStatePoweredOff {
		return refuse("the VM is not off", &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: state})
	}
	l, err := s.newLease(ctx, vm, vm.Config.Hardware.Device)
	if err != nil {
		return refuse(err.Error(), &types.FileFault{File: vm.Config.Files.VmPathName})
	}
	l.whole = true
	return &methods.ExportVmBody{Res: &types.ExportVmResponse{Returnval: l.Self}}
}

func (s *Server) exportSnapshot(ctx *simulator.Context, req *types.ExportSnapshot) soap.HasFault {
	snapshot := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
	l, err := s.newLease(ctx, vmOf(ctx, snapshot.Vm), snapshot.Config.Hardware.Device)
	if err != nil {
		return refuse(err.Error(), &types.FileFault{File: snapshot.Config.Files.VmPathName})
	}
	return &methods.ExportSnapshotBody{Res: &types.ExportSnapshotResponse{Returnval: l.Self}}
}

// exporting tells whether there is a lease on a VM itself.
func (s *Server) exporting(vm types.ManagedObjectReference) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		if l.whole && l.vm == vm {
			return true
		}
	}
	return false
}

// contents fills in what a lease is for: the disks, and of a VM with UEFI its NVRAM,
// which is no disk. s.mu is held.
func (s *Server) contents(l *lease, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) error {
	l.Info = &types.HttpNfcLeaseInfo{Lease: l.Self, Entity: vm.Self, LeaseTimeout: int32(max(1, s.options.LeaseTimeout/time.Second))}
	for n, d := range disksOf(devices) {
		layer, err := s.layerOf(vm, d)
		if err != nil {
			return err
		}
		at := place(devices, d)
		l.Info.TotalDiskCapacityInKB += layer.size >> 10
		s.offer(l, vm, fmt.Sprintf("disk-%d.vmdk", n), at, exported{raw: layer.raw, size: layer.size})
	}
	if vm.Config.Firmware == "efi" {
		s.offer(l, vm, vm.Name+".nvram", "nvram", exported{})
	}
	return nil
}

// place is how a lease names a disk: ParaVirtualSCSIController0:1.
func place(devices []types.BaseVirtualDevice, d *types.VirtualDisk) string {
	c, ok := object.VirtualDeviceList(devices).FindByKey(d.ControllerKey).(types.BaseVirtualController)
	if !ok || d.UnitNumber == nil {
		return fmt.Sprintf("VirtualDisk:%d", d.Key)
	}
	return fmt.Sprintf("%s%d:%d", reflect.TypeOf(c).Elem().Name(), c.GetVirtualController().BusNumber, *d.UnitNumber)
}

// offer adds a file to a lease. A vCenter names itself, an ESXi host says *.
//
// Source: vSphere Web Services API, HttpNfcLeaseDeviceUrl.url.
func (s *Server) offer(l *lease, vm *simulator.VirtualMachine, name, at string, f exported) {
	f.key = "/" + vm.Self.Value + "/" + at
	l.files[name] = &f
	host, disk := s.URL.Host, f.raw != ""
	if s.options.ESX {
		host = "*"
	}
	l.Info.DeviceUrl = append(l.Info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
		Key: f.key, ImportKey: "/" + vm.Name + "/" + at, TargetId: name, Disk: &disk,
		Url:           "https://" + host + nfcPrefix + l.Self.Value + "/" + name,
		SslThumbprint: s.ThumbprintSHA1,
	})
}

// nfcFile sends a file of a lease from start to end: ranges are not asked for in vain,
// they are not heard. The address is the ticket.
func (s *Server) nfcFile(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	l := s.leases[r.PathValue("lease")]
	s.mu.Unlock()
	if l == nil || l.files[r.PathValue("file")] == nil {
		http.NotFound(w, r)
		return
	}
	f := l.files[r.PathValue("file")]
	w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
	sum := sha1.New()
	n := &counter{w: io.MultiWriter(w, sum)}
	if err := l.send(n, f); err != nil {
		panic(http.ErrAbortHandler) // what was sent cannot be taken back
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.sent, f.sha1 = n.n, hex.EncodeToString(sum.Sum(nil))
}

// send writes a disk as a streamOptimized VMDK as long as the lease lasts, and NVRAM as it is.
func (l *lease) send(w io.Writer, f *exported) error {
	if f.raw == "" {
		_, err := w.Write(make([]byte, 8684))
		return err
	}
	raw, err := os.Open(f.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	return stream(w, raw, f.size, l.ended)
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

// Write writes and counts.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
