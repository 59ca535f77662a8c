package vmware

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// many is the number of VMs that the inventory's bars are set for.
const many = 10_000

// mostMemory is what reading so many may have in use, in bytes.
const mostMemory = 300 << 20

// populate gives a simulator so many VMs, as its own way would take minutes: copies of
// one with two disks, a snapshot, and the settings that ESXi writes.
func populate(t testing.TB, l *lab, n int) {
	t.Helper()
	m := l.vm(t, "DC0_C0_RP0_VM0").VirtualMachine
	for i := range 60 {
		m.Config.ExtraConfig = append(m.Config.ExtraConfig, &types.OptionValue{Key: fmt.Sprintf("pciBridge%d.functions", i), Value: "a value of a usual length"})
	}
	m.Config.Hardware.Device = append(m.Config.Hardware.Device, oneDisk(2001, 1000, 1, &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[LocalDS_0] web/web_1-000001.vmdk", Datastore: &m.Datastore[0]}, DiskMode: "persistent", Uuid: "6000C29f-5b3e-1c0f-8d1e-4a6b7c8d9e0f",
		Parent: &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[LocalDS_0] web/web_1.vmdk", Datastore: &m.Datastore[0]}, DiskMode: "persistent"}}))
	m.Snapshot = &types.VirtualMachineSnapshotInfo{CurrentSnapshot: &ref{Type: "VirtualMachineSnapshot", Value: "snapshot-1"}, RootSnapshotList: []types.VirtualMachineSnapshotTree{{Snapshot: ref{Type: "VirtualMachineSnapshot", Value: "snapshot-1"}, Name: "before"}}}
	registry := l.model.Map()
	folder := registry.Get(*m.Parent).(*simulator.Folder)
	for i := range n - len(registry.All("VirtualMachine")) {
		vm := &simulator.VirtualMachine{VirtualMachine: m}
		vm.Self.Value, vm.Name = fmt.Sprintf("vm-%d", 100_000+i), fmt.Sprintf("server %05d", i)
		registry.Put(vm)
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
	}
}

// wire counts what a server is asked and answers.
type wire struct {
	http.Handler
	calls, bytes atomic.Int64
}

func (w *wire) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w.calls.Add(1)
	w.Handler.ServeHTTP(counted{to, &w.bytes}, r)
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// measured is what reading an inventory took.
type measured struct {
	calls, bytes int64
	first, last  time.Duration
	memory       int64 // that is in use at most, the server's included, beyond what was before
}

// measure reads an inventory once. read tells of every VM.
func measure(b *testing.B, w *wire, read func(row func()) error) (m measured) {
	runtime.GC()
	before, most := heap(), int64(0)
	w.calls.Store(0)
	w.bytes.Store(0)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			most = max(most, heap()-before)
		}
	}()
	began, n := time.Now(), 0
	err := read(func() {
		if n++; n == 1 {
			m.first = time.Since(began)
		}
	})
	m.last = time.Since(began)
	stop()
	<-ended
	if err != nil || n != many {
		b.Fatalf("%d VMs: %v", n, err)
	}
	m.calls, m.bytes, m.memory = w.calls.Load(), w.bytes.Load(), most
	return m
}

func heap() int64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkInventory reads 10,000 VMs, and asks for the same properties in the two ways
// in which govc does, by the library's own calls: find, and then property.Retrieve of
// what was found (govc vm.info, object.collect); and ContainerView.Retrieve (govc find
// with conditions). Names of hosts, networks and datastores are not in what govc gets.
func BenchmarkInventory(b *testing.B) {
	model := simulator.VPX()
	model.Machine = 1
	l := serve(b, model)
	populate(b, l, many)
	w := &wire{Handler: l.Config.Handler}
	l.Config.Handler = w
	for range b.N {
		ours := measure(b, w, func(row func()) error {
			for vm, err := range l.VMs(b.Context(), Selection{}) {
				if err != nil {
					return err
				}
				if vm.Path == "" || len(vm.Disks) == 0 {
					return fmt.Errorf("%+v is not whole", vm)
				}
				row()
			}
			return nil
		})
		report(b, "ours", ours, ours)
		if ours.memory > mostMemory {
			b.Errorf("%d MB of memory, want at most %d", ours.memory>>20, mostMemory>>20)
		}
		report(b, "govc-find-collect", ours, measure(b, w, func(row func()) error { return findAndCollect(b.Context(), l, row) }))
		report(b, "govc-view", ours, measure(b, w, func(row func()) error { return collectView(b.Context(), l, row) }))
	}
}

func report(b *testing.B, name string, ours, m measured) {
	b.Logf("%-18s %4d calls (×%.2f) %6.1f MB (×%.2f) first %8v (×%.1f) last %8v (×%.2f) memory %4d MB (×%.1f)", name,
		m.calls, float64(m.calls)/float64(ours.calls), float64(m.bytes)/1e6, float64(m.bytes)/float64(ours.bytes),
		m.first.Round(time.Millisecond), float64(m.first)/float64(ours.first), m.last.Round(time.Millisecond), float64(m.last)/float64(ours.last),
		m.memory>>20, float64(m.memory)/float64(max(1, ours.memory)))
	b.ReportMetric(float64(m.calls), name+"-calls")
	b.ReportMetric(float64(m.bytes), name+"-bytes")
	b.ReportMetric(m.first.Seconds(), name+"-first-s")
	b.ReportMetric(m.last.Seconds(), name+"-last-s")
	b.ReportMetric(float64(m.memory>>20), name+"-MiB")
}

// plainPaths are the recorded properties that govc can be asked for.
func plainPaths() []string { return recorded[:len(recorded)-len(extraPaths())] }

func findAndCollect(ctx context.Context, l *lab, row func()) error {
	v, err := view.NewManager(l.client).CreateContainerView(ctx, l.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return err
	}
	defer func() { _ = v.Destroy(ctx) }()
	refs, err := v.Find(ctx, []string{"VirtualMachine"}, property.Match{"name": "*"})
	if err != nil {
		return err
	}
	var vms []mo.VirtualMachine
	if err := property.DefaultCollector(l.client).Retrieve(ctx, refs, append(plainPaths(), "config.extraConfig"), &vms); err != nil {
		return err
	}
	for range vms {
		row()
	}
	return nil
}

func collectView(ctx context.Context, l *lab, row func()) error {
	v, err := view.NewManager(l.client).CreateContainerView(ctx, l.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return err
	}
	defer func() { _ = v.Destroy(ctx) }()
	var vms []mo.VirtualMachine
	if err := v.Retrieve(ctx, []string{"VirtualMachine"}, append(plainPaths(), "config.extraConfig"), &vms); err != nil {
		return err
	}
	for range vms {
		row()
	}
	return nil
}
