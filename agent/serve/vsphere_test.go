package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/vmware/vmwaretest"
)

// site is a server, and what an agent's settings say of it.
type site struct {
	*vmwaretest.Server
	settings string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := vmwaretest.Start(t, vmwaretest.Options{Password: "vcenters-wary-walrus"})
	return &site{s, fmt.Sprintf("vsphere: [{name: vc1, server: '%s', user: %s, secret: vc1-password, thumbprint: '%s', transports: [https]}]", s.URL.Host, s.User, s.ThumbprintSHA256)}
}

// knows gives an agent a password for the server.
func (v *site) knows(t *testing.T, a *appliance, password string) {
	t.Helper()
	if status, text := a.send(t, "PUT", "/secrets/vc1-password", fmt.Sprintf(`{"value":%q}`, password)); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
}

// asked reads an answer, and holds its status to what is wanted.
func asked[T any](t *testing.T, a *appliance, path string, want int) (v T) {
	t.Helper()
	status, text := a.send(t, "GET", path, "")
	if err := json.Unmarshal(text, &v); err != nil || status != want {
		t.Fatalf("%s: %d, want %d, %v\n%s", path, status, want, err, text)
	}
	return v
}

func names(list model.VMList) (all []string) {
	for _, vm := range list.Items {
		all = append(all, vm.Name)
	}
	return all
}

func TestServersAreListedCheckedAndSearched(t *testing.T) {
	v := newSite(t)
	for i := range 7 {
		v.AddVM(t, vmwaretest.VM{Name: fmt.Sprintf("web%02d", i), Folder: "Web", Disks: []vmwaretest.Disk{{Size: 1 << 30}}, NICs: []vmwaretest.NIC{{MAC: fmt.Sprintf("00:50:56:01:02:%02x", i)}}})
	}
	db := v.AddVM(t, vmwaretest.VM{Name: "db01", Disks: []vmwaretest.Disk{{Size: 1 << 30, Sharing: "sharingMultiWriter"}}})
	a := started(t, t.TempDir(), v.settings)
	if p := asked[model.Problem](t, a, "/vsphere/vc1/vms", 409); p.Code != "no-such-secret" || p.Try == "" {
		t.Errorf("without its secret: %+v", p)
	}
	v.knows(t, a, v.Password)
	type list[T any] struct{ Items []T }
	if s := asked[list[model.Server]](t, a, "/vsphere", 200).Items; len(s) != 1 || s[0].Name != "vc1" || s[0].Secret != "vc1-password" || !slices.Equal(s[0].Appliances, []string{"a1"}) || s[0].Refused != "" {
		t.Errorf("the servers are %+v", s)
	}
	var all []string
	for page := asked[model.VMList](t, a, "/vsphere/vc1/vms?limit=3", 200); ; page = asked[model.VMList](t, a, "/vsphere/vc1/vms?limit=3&cursor="+url.QueryEscape(page.Next), 200) {
		if all = append(all, names(page)...); page.Next == "" {
			break
		}
		if len(page.Items) != 3 {
			t.Fatalf("a page has %d VMs", len(page.Items))
		}
	}
	slices.Sort(all)
	if want := []string{"db01", "web00", "web01", "web02", "web03", "web04", "web05", "web06"}; !slices.Equal(all, want) {
		t.Errorf("the pages hold %q, want %q", all, want)
	}
	if got := names(asked[model.VMList](t, a, "/vsphere/vc1/vms?folder=Web&name=web05&name=db*", 200)); !slices.Equal(got, []string{"web05"}) {
		t.Errorf("filtered are %q", got)
	}
	one := asked[model.VM](t, a, "/vsphere/vc1/vms/"+db.Ref.Value, 200)
	if one.Name != "db01" || len(one.Disks) != 1 || one.Disks[0].Size != 1<<30 || one.Concerns[0].Level != model.FindingLevelBlocker || one.Concerns[0].Code != "vsphere/shared-disk" || one.Concerns[0].Try == "" {
		t.Errorf("one VM is %+v", one)
	}
	for path, code := range map[string]string{"/vsphere/vc1/vms/vm-9999": "no-such-vm", "/vsphere/vc2/vms": "no-such-server", "/vsphere/vc2/check": "no-such-server", "/vsphere/vc1/check?vm=nobody": "no-such-vm"} {
		if p := asked[model.Problem](t, a, path, 404); p.Code != code || p.Detail == "" || p.Try == "" {
			t.Errorf("%s is answered with %+v", path, p)
		}
	}
	for _, path := range []string{"/vsphere/vc1/vms?name=%5B", "/vsphere/vc1/check?for=fun"} {
		if p := asked[model.Problem](t, a, path, 422); p.Code != "bad-input" {
			t.Errorf("%s is answered with %+v", path, p)
		}
	}
	codes := map[string]model.FindingLevel{}
	for _, f := range asked[list[model.Finding]](t, a, "/vsphere/vc1/check?vm=web01&vm=db01&for=https", 200).Items {
		codes[f.Code] = f.Level
	}
	if codes["vsphere/server"] != model.FindingLevelOk || codes["vsphere/vddk"] == "" || codes["vsphere/clock"] == "" {
		t.Errorf("found are %v", codes)
	}
	if n := len(v.Sessions()); n != 1 {
		t.Errorf("all that was asked for took %d sessions", n)
	}
	a.stop(t)
	if n := len(v.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestARefusedPasswordIsTriedOnce: by whoever asks, until the secret is put anew.
func TestARefusedPasswordIsTriedOnce(t *testing.T) {
	v := newSite(t)
	v.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	a := started(t, t.TempDir(), v.settings)
	tried := v.Calls()["Login"]
	v.knows(t, a, "a-wrong-password")
	for range 3 {
		if p := asked[model.Problem](t, a, "/vsphere/vc1/vms", 502); p.Code != "vsphere-login" || p.Try == "" || strings.Contains(p.Detail, "a-wrong-password") {
			t.Errorf("a wrong password is answered with %+v", p)
		}
		found := asked[struct{ Items []model.Finding }](t, a, "/vsphere/vc1/check", 200).Items
		if len(found) != 1 || found[0].Code != "vsphere/login" || found[0].Level != model.FindingLevelBlocker {
			t.Errorf("found are %+v", found)
		}
	}
	a.begin(t, "refused", `{"source":{"vsphere":{"server":"vc1","vm":"web01"}},"target":{"storage":"to"}}`)
	if m := a.settles(t, "refused"); m.State != model.StateFailed || m.Problem.Code != "vsphere-login" {
		t.Errorf("its migration is %+v", m)
	}
	if s := asked[struct{ Items []model.Server }](t, a, "/vsphere", 200).Items; s[0].Refused == "" {
		t.Errorf("nobody says that it is refused: %+v", s)
	}
	if n := v.Calls()["Login"] - tried; n != 1 {
		t.Errorf("it was tried %d times", n)
	}
	v.knows(t, a, "a-wrong-password") // put once more, it is tried once more
	asked[model.Problem](t, a, "/vsphere/vc1/vms", 502)
	asked[model.Problem](t, a, "/vsphere/vc1/vms", 502)
	if n := v.Calls()["Login"] - tried; n != 2 {
		t.Errorf("put once more, it was tried %d times in all", n)
	}
	v.knows(t, a, v.Password)
	if got := names(asked[model.VMList](t, a, "/vsphere/vc1/vms", 200)); len(got) != 1 {
		t.Errorf("with the right one there are %q", got)
	}
}

// begin asks for a migration.
func (a *appliance) begin(t *testing.T, id, spec string) {
	t.Helper()
	if status, text := a.send(t, "POST", "/migrations", fmt.Sprintf(`{"id":%q,"spec":%s}`, id, spec)); status != http.StatusAccepted {
		t.Fatalf("%s is answered with %d %s", id, status, text)
	}
}

// settles waits for the end of a migration, or until it is held.
func (a *appliance) settles(t *testing.T, id string) (m model.Migration) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		m = asked[model.Migration](t, a, "/migrations/"+id, 200)
		if m.State != model.StateQueued && m.State != model.StateRunning {
			return m
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %+v", id, m)
		}
	}
}

const (
	on  = types.VirtualMachinePowerStatePoweredOn
	off = types.VirtualMachinePowerStatePoweredOff
)

// power is whether a VM runs, and how many snapshots it has.
func (v *site) power(t *testing.T, vm vmwaretest.VM) (types.VirtualMachinePowerState, int) {
	t.Helper()
	var m mo.VirtualMachine
	if err := object.NewVirtualMachine(v.Client, vm.Ref).Properties(t.Context(), vm.Ref, []string{"runtime.powerState", "snapshot"}, &m); err != nil {
		t.Fatal(err)
	}
	if m.Snapshot == nil {
		return m.Runtime.PowerState, 0
	}
	return m.Runtime.PowerState, len(m.Snapshot.RootSnapshotList)
}

// wants holds a VM to its power, and the server to nothing that was left there.
func (v *site) wants(t *testing.T, vm vmwaretest.VM, power types.VirtualMachinePowerState) {
	t.Helper()
	if is, snapshots := v.power(t, vm); is != power || snapshots != 0 {
		t.Errorf("the VM is %s with %d snapshots, want %s and none", is, snapshots, power)
	}
}

// guest adds a VM that runs, with a small guest on its disk.
func (v *site) guest(t testing.TB, name string) vmwaretest.VM {
	t.Helper()
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	return v.AddVM(t, vmwaretest.VM{Name: name, On: true, CBT: true, Disks: []vmwaretest.Disk{{Raw: raw}}, NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}},
		Also: func(m *mo.VirtualMachine) { m.Guest.ToolsRunningStatus = "guestToolsRunning" }})
}

// spec asks for the migration of a VM, with more of it.
func (v *site) spec(vm vmwaretest.VM, more string) string {
	return fmt.Sprintf(`{"source":{"vsphere":{"server":"vc1","vm":%q,"marks":{"note":"moved"}}},"target":{"storage":"to","cpus":3,"networks":{"*":"bridge:br7"}},"engine":"direct","test":{"skip":"not part of this"}%s}`, vm.Name, more)
}

// TestAVMIsMigratedThroughTheAPI also looks at it first, and verifies it against the VM.
func TestAVMIsMigratedThroughTheAPI(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01.prod")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "look", `{"mode":"plan","source":{"vsphere":{"server":"vc1","vm":"web01.prod"}},"engine":"direct"}`)
	if m := a.settles(t, "look"); m.State != model.StateDone || m.Verdict != model.VerdictRead || m.Plan.Changes == 0 {
		t.Errorf("its plan is %+v", m)
	}
	v.wants(t, vm, on)
	if left, err := os.ReadDir(filepath.Join(a.folder, "state", "looks")); err != nil || len(left) != 0 {
		t.Errorf("the look has left %v, %v", left, err)
	}
	a.begin(t, "moved", v.spec(vm, ""))
	m := a.settles(t, "moved")
	if m.State != model.StateDone || m.Verdict != model.VerdictUntested || m.Name != "web01.prod" || m.Folder.Path != "web01.prod" {
		t.Fatalf("it ended as %+v", m)
	}
	v.wants(t, vm, off)
	domain, err := os.ReadFile(filepath.Join(a.folder, "to", "web01.prod", "web01.prod.xml"))
	if err != nil || !strings.Contains(string(domain), "br7") || !strings.Contains(string(domain), ">3</vcpu>") {
		t.Errorf("its domain is %s, %v", domain, err)
	}
	if status := a.post(t, "/migrations/moved/verify", `{"againstSource":true}`); status != 202 {
		t.Fatalf("verify is answered with %d", status)
	}
	m = a.settles(t, "moved")
	if last := m.Operations[len(m.Operations)-1]; m.State != model.StateDone || len(last.Verified) != 2 {
		t.Errorf("verified, it is %+v", m)
	}
	v.wants(t, vm, off)
	a.stop(t)
	if n := len(v.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestAHeldPlanLeavesTheVMRunning: what was approved is what is applied to the VM at rest.
func TestAHeldPlanLeavesTheVMRunning(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "held", v.spec(vm, `,"approval":"required"`))
	m := a.settles(t, "held")
	if m.State != model.StatePlanned || m.Plan.Changes == 0 {
		t.Fatalf("it is %+v", m)
	}
	v.wants(t, vm, on)
	if n := v.Calls()["ShutdownGuest"] + v.Calls()["PowerOffVM_Task"]; n != 0 {
		t.Errorf("it was shut down %d times for its plan", n)
	}
	if status := a.post(t, "/migrations/held/approve", fmt.Sprintf(`{"digest":%q}`, m.Plan.Digest)); status != 202 {
		t.Fatalf("approval is answered with %d", status)
	}
	if m = a.settles(t, "held"); m.State != model.StateDone {
		t.Errorf("approved, it ended as %+v", m)
	}
	v.wants(t, vm, off)
}

// TestGivingUpGivesTheVMBack: one that was shut down runs again, and its folder is gone.
func TestGivingUpGivesTheVMBack(t *testing.T) {
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), v.settings)
	v.knows(t, a, v.Password)
	a.begin(t, "given-up", v.spec(vm, `,"limits":["100K"]`))
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if m := asked[model.Migration](t, a, "/migrations/given-up", 200); len(m.Stages) > 5 && m.Stages[5].State == model.StageStateRunning {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("it does not get to CONVERT")
		}
	}
	v.wants(t, vm, off)
	if status := a.post(t, "/migrations/given-up/cancel", ""); status != 202 {
		t.Fatalf("it is answered with %d", status)
	}
	for limit := time.Now().Add(time.Minute); asked[model.Migration](t, a, "/migrations/given-up", 200).State != model.StateCancelled; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("it is %+v", asked[model.Migration](t, a, "/migrations/given-up", 200))
		}
	}
	v.wants(t, vm, on)
	if left, err := os.ReadDir(filepath.Join(a.folder, "to")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
