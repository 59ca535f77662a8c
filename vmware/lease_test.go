package vmware

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// exportRig has a VM that is off, and leases that end after two seconds of silence.
func exportRig(t *testing.T) (*rig, *Hand, *pages) {
	t.Helper()
	r := newRig(t, vmwaretest.Options{LeaseTimeout: 2 * time.Second})
	ledger := new(pages)
	h := r.hand(t, ledger)
	if err := h.Shutdown(context.Background(), r.source.Ref.Value, PowerPolicy{}); err != nil {
		t.Fatal(err)
	}
	return r, h, ledger
}

func (r *rig) export(ctx context.Context, h *Hand, disk int) (*Export, error) {
	return h.Export(ctx, r.source.Ref.Value, "", r.source.Disks[disk].Key)
}

// leases are the server's.
func (r *rig) leases() (n int) {
	for _, l := range r.Leaks() {
		if strings.HasPrefix(l, "a lease") {
			n++
		}
	}
	return n
}

// capacity reads the size that a streamOptimized VMDK says that it has.
func capacity(t *testing.T, r *rig, h *Hand, e *Export) int64 {
	t.Helper()
	client, err := h.Session.ClientFor(e.URL.Host, e.Thumbprint)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Get(e.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	header := make([]byte, 512)
	if _, err := io.ReadFull(res.Body, header); err != nil || res.StatusCode != http.StatusOK || !bytes.HasPrefix(header, []byte("KDMV")) {
		t.Fatalf("%s: %s, %q, %v", e.URL, res.Status, header[:4], err)
	}
	var size int64
	for i := range 8 {
		size |= int64(header[12+i]) << (8 * i)
	}
	return size * 512
}

func TestTheDisksOfAVMShareAnExportThatIsKeptAlive(t *testing.T) {
	r, h, ledger := exportRig(t)
	ctx := context.Background()
	var exports []*Export
	for disk := range 2 {
		e, err := r.export(ctx, h, disk)
		if err != nil {
			t.Fatal(err)
		}
		if got := capacity(t, r, h, e); got != r.source.Disks[disk].Size {
			t.Errorf("disk %d is exported with %d bytes, want %d", disk, got, r.source.Disks[disk].Size)
		}
		exports = append(exports, e)
	}
	time.Sleep(3 * time.Second) // longer than the server waits
	for _, e := range exports {
		if err := e.Progress(ctx, 50); err != nil || r.leases() != 1 {
			t.Fatalf("Progress = %v, and the server has %d leases", err, r.leases())
		}
		if err := errors.Join(e.Close(ctx, true), e.Close(ctx, true)); err != nil {
			t.Error(err)
		}
	}
	if n := r.leases(); n != 0 || ledger.states()[1] != "lease undone" {
		t.Errorf("after Close there are %d leases, %q", n, ledger.states())
	}
}

func TestAnExportEndsWithItsContext(t *testing.T) {
	r, h, ledger := exportRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	e, err := r.export(ctx, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for deadline := time.Now().Add(20 * time.Second); ledger.states()[1] != "lease undone"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not aborted: %q", ledger.states())
		}
	}
	if err := e.Close(context.Background(), true); err != nil || r.leases() != 0 {
		t.Errorf("Close = %v, and there are %d leases", err, r.leases())
	}
}

func TestALostExportIsToldAndBegunAnew(t *testing.T) {
	r, h, _ := exportRig(t)
	ctx := context.Background()
	e, err := r.export(ctx, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Fail(vmwaretest.Trouble{Method: "HttpNfcLeaseProgress", Fault: &types.Timedout{}})
	for deadline := time.Now().Add(20 * time.Second); e.Progress(ctx, 1) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody says that it is lost")
		}
	}
	again, err := r.export(ctx, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	capacity(t, r, h, again)
	if err := errors.Join(e.Close(ctx, false), again.Close(ctx, true)); err != nil || r.leases() != 0 {
		t.Errorf("Close = %v, and there are %d leases", err, r.leases())
	}
}

// TestAnExportThatHasEndedIsNotShared, also before whoever has it knows of that.
func TestAnExportThatHasEndedIsNotShared(t *testing.T) {
	r, h, _ := exportRig(t)
	ctx := context.Background()
	first, err := r.export(ctx, h, 0)
	if err != nil {
		t.Fatal(err)
	}
	first.lease.stop() // nothing keeps it alive, and nobody hears that it has ended
	for deadline := time.Now().Add(20 * time.Second); r.leases() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server keeps it")
		}
	}
	second, err := r.export(ctx, h, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := capacity(t, r, h, second); got != r.source.Disks[1].Size || second.lease == first.lease || first.Progress(ctx, 1) == nil {
		t.Errorf("the second disk is exported with %d bytes, by %s after %s", got, second.lease.id, first.lease.id)
	}
	if err := errors.Join(first.Close(ctx, false), second.Close(ctx, true)); err != nil || r.leases() != 0 {
		t.Errorf("Close = %v, and there are %d leases", err, r.leases())
	}
}

func TestAnExportOfAKilledProcessIsAborted(t *testing.T) {
	r, h, ledger := exportRig(t)
	e, err := r.export(context.Background(), h, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background(), false) // this process still lives
	if err := r.hand(t, ledger).Restore(context.Background()); err != nil || r.leases() != 0 || r.state(r.source) != On {
		t.Errorf("Restore = %v, there are %d leases and the VM is %s", err, r.leases(), r.state(r.source))
	}
}

func TestAHostThatCallsItselfAStarIsAskedByItsAddress(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{ESX: true})
	r := &rig{Server: s}
	r.source = s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 4 << 20}}})
	h := r.hand(t, new(pages))
	e, err := r.export(context.Background(), h, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := capacity(t, r, h, e); got != 4<<20 {
		t.Errorf("%s has %d bytes", e.URL, got)
	}
	if err := e.Close(context.Background(), true); err != nil {
		t.Error(err)
	}
}

func TestAddressesOfExportsAreNotTrusted(t *testing.T) {
	r := newRig(t, vmwaretest.Options{})
	s := r.connect(t)
	defer s.Close(context.Background())
	for text, want := range map[string]string{
		"https://*/nfc/a":                 "https://" + r.URL.Host + "/nfc/a",
		"https://*:8443/nfc/a":            "https://127.0.0.1:8443/nfc/a",
		"https://esx1.example.com/nfc/a":  "https://esx1.example.com/nfc/a",
		"http://esx1.example.com/nfc/a":   "",
		"https://user@esx1.example.com/a": "",
		"file:///etc/passwd":              "",
		"https:///nfc":                    "",
	} {
		u, err := s.leaseURL(text)
		if got := ""; err == nil {
			if got = u.String(); got != want {
				t.Errorf("leaseURL(%q) = %q, want %q", text, got, want)
			}
		} else if want != "" {
			t.Errorf("leaseURL(%q) = %v", text, err)
		}
	}
}

func TestADiskIsFoundByItsPlace(t *testing.T) {
	yes, no := true, false
	c := &types.ParaVirtualSCSIController{}
	c.Key, c.BusNumber = 1001, 1
	disk := func(key, unit int32) *types.VirtualDisk {
		d := &types.VirtualDisk{}
		d.Key, d.ControllerKey, d.UnitNumber = key, 1001, &unit
		return d
	}
	l := &lease{devices: []types.BaseVirtualDevice{c}, disks: []*types.VirtualDisk{disk(2000, 0), disk(2001, 9)}}
	set := func(keys ...string) {
		l.info.DeviceUrl = []types.HttpNfcLeaseDeviceUrl{{Key: "/vm-1/nvram", Url: "nvram", Disk: &no}}
		for _, k := range keys {
			l.info.DeviceUrl = append(l.info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{Key: k, Url: k, Disk: &yes})
		}
	}
	for _, c := range []struct {
		keys []string
		key  int32
		want string
	}{
		{[]string{"/vm-1/ParaVirtualSCSIController1:9", "/vm-1/ParaVirtualSCSIController1:0"}, 2001, "/vm-1/ParaVirtualSCSIController1:9"},
		{[]string{"/vm-1/disk:0", "/vm-1/disk:1"}, 2001, "/vm-1/disk:1"},
		{[]string{"/vm-1/disk:0"}, 2001, ""},
		{[]string{"/vm-1/disk:0", "/vm-1/disk:1"}, 2002, ""},
	} {
		set(c.keys...)
		if got, err := l.device(c.key); got.Url != c.want || (err != nil) != (c.want == "") {
			t.Errorf("disk %d among %q is at %q, %v, want %q", c.key, c.keys, got.Url, err, c.want)
		}
	}
}
