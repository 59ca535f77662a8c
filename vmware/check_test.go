package vmware

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// warden is the simulator's AuthorizationManager, whose user may not do everything. It
// proves what is asked and how the answers are read, not how a vCenter works them out.
type warden struct {
	*simulator.AuthorizationManager
	deny map[string][]string // privileges, by MoRef
}

func (w *warden) HasPrivilegeOnEntities(ctx *simulator.Context, request *types.HasPrivilegeOnEntities) soap.HasFault {
	body := new(methods.HasPrivilegeOnEntitiesBody)
	for _, id := range request.PrivId {
		if !slices.ContainsFunc(w.PrivilegeList, func(p types.AuthorizationPrivilege) bool { return p.PrivId == id }) {
			body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "privId"})
			return body
		}
	}
	body.Res = new(types.HasPrivilegeOnEntitiesResponse)
	for _, entity := range request.Entity {
		e := types.EntityPrivilege{Entity: entity}
		for _, id := range request.PrivId {
			granted := ctx.Session != nil && request.SessionId == ctx.Session.Key && !slices.Contains(w.deny[entity.Value], id)
			e.PrivAvailability = append(e.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: granted})
		}
		body.Res.Returnval = append(body.Res.Returnval, e)
	}
	return body
}

// guard makes a site deny privileges, and know none of those that are unknown.
func (s *site) guard(deny map[string][]string, unknown ...string) {
	registry := s.model.Map()
	w := &warden{deny: deny}
	switch m := registry.Get(s.authority()).(type) {
	case *simulator.AuthorizationManager:
		w.AuthorizationManager = m
	case *warden:
		w.AuthorizationManager = m.AuthorizationManager
	}
	w.PrivilegeList = nil
	for _, role := range esx.RoleList {
		for _, p := range role.Privilege {
			if !slices.Contains(unknown, p) {
				w.PrivilegeList = append(w.PrivilegeList, types.AuthorizationPrivilege{PrivId: p})
			}
		}
	}
	registry.Put(w)
}

func (s *site) authority() types.ManagedObjectReference {
	instance := s.model.Map().Get(vim25.ServiceInstance).(*simulator.ServiceInstance)
	return *instance.Content.AuthorizationManager
}

// object is one of the simulator's, by its name.
func (s *site) object(t testing.TB, kind, name string) mo.Entity {
	t.Helper()
	for _, e := range s.model.Map().All(kind) {
		if e.Entity().Name == name {
			return e
		}
	}
	t.Fatalf("the simulator has no %s %s", kind, name)
	return nil
}

func (s *site) chosen(t testing.TB, names ...string) (vms []VM) {
	for _, name := range names {
		vms = append(vms, VM{Ref: s.object(t, "VirtualMachine", name).Reference().Value, Name: name})
	}
	return vms
}

// elsewhere makes this machine no VM, until the test ends.
func elsewhere(t testing.TB) { pretend(t, "QEMU", "") }

func pretend(t testing.TB, vendor, uuid string) {
	t.Helper()
	was := dmi
	dmi = t.TempDir()
	t.Cleanup(func() { dmi = was })
	for name, text := range map[string]string{"sys_vendor": vendor + "\n", "product_uuid": uuid + "\n"} {
		if err := os.WriteFile(filepath.Join(dmi, name), []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
}

func checked(t testing.TB, session *Session, a Asked) map[string]Finding {
	t.Helper()
	found, err := session.Check(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]Finding{}
	for _, f := range found {
		if _, twice := by[f.Code]; twice && !strings.HasPrefix(f.Code, "vsphere/host") {
			t.Errorf("two findings are called %s", f.Code)
		}
		if f.Level != OK && (f.Text == "" || f.Try == "") {
			t.Errorf("finding %+v says not what to do", f)
		}
		by[f.Code] = f
	}
	return by
}

func wantFinding(t testing.TB, by map[string]Finding, code string, level Level, says ...string) {
	t.Helper()
	f, ok := by[code]
	if !ok {
		t.Fatalf("no finding %s in %v", code, by)
	}
	if f.Level != level {
		t.Errorf("%s is %s, want %s: %s", code, f.Level, level, f.Text)
	}
	for _, part := range says {
		if !strings.Contains(f.Text+" | "+f.Try, part) {
			t.Errorf("%s says %q, try %q; not %q", code, f.Text, f.Try, part)
		}
	}
}

func TestCheckOfAServerThatIsWell(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	by := checked(t, s.connect(t), Asked{Outside: []Finding{{Code: "vddk", Level: OK, Text: "VMware's library 8.0.3 is there"}}})
	wantFinding(t, by, "vsphere/server", OK, "VirtualCenter", "API 6.5", "vCenter")
	wantFinding(t, by, "vsphere/clock", OK, "differ by 0s")
	wantFinding(t, by, "vsphere/own-vm", OK, "does not run in a VM of VMware's")
	wantFinding(t, by, "vddk", OK, "8.0.3")
	for _, p := range Purposes() {
		wantFinding(t, by, "vsphere/privileges-"+string(p), OK)
	}
}

func TestWhatTheUserMayNotDoIsSaidPrecisely(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	chosen := s.chosen(t, "DC0_H0_VM0", "DC0_H0_VM1")
	s.guard(map[string][]string{
		chosen[0].Ref: {"VirtualMachine.State.CreateSnapshot", "VApp.Export"},
		chosen[1].Ref: {"VirtualMachine.State.CreateSnapshot"},
		s.object(t, "Datastore", "LocalDS_0").Reference().Value: {"Datastore.FileManagement"},
	})
	session := s.connect(t)
	all := checked(t, session, Asked{VMs: chosen})
	wantFinding(t, all, "vsphere/privileges-snapshots", Warning, siteUser+" lacks VirtualMachine.State.CreateSnapshot on VM DC0_H0_VM0, VM DC0_H0_VM1", "role")
	wantFinding(t, all, "vsphere/privileges-nfc", Warning, "VApp.Export on VM DC0_H0_VM0")
	wantFinding(t, all, "vsphere/privileges-https", Warning, "Datastore.FileManagement on datastore LocalDS_0")
	wantFinding(t, all, "vsphere/privileges-vddk", OK)
	wantFinding(t, all, "vsphere/privileges-power", OK)

	cold := checked(t, session, Asked{VMs: chosen, Purposes: []Purpose{ForSnapshots, ForNFC, ForVDDK}})
	wantFinding(t, cold, "vsphere/privileges-snapshots", Blocker)
	wantFinding(t, cold, "vsphere/privileges-nfc", Warning) // VDDK can read them
	if _, ok := cold["vsphere/privileges-https"]; ok {
		t.Error("what was not asked for was looked at")
	}
	none := checked(t, session, Asked{VMs: chosen, Purposes: []Purpose{ForHTTPS, ForNFC, ForHotadd}})
	wantFinding(t, none, "vsphere/privileges-nfc", Blocker) // hotadd has no VM to attach to
	wantFinding(t, none, "vsphere/privileges-https", Blocker)
	wantFinding(t, none, "vsphere/own-vm", Warning, "hotadd cannot be had")
}

func TestPrivilegesThatTheServerDoesNotKnowAreNotMissed(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(map[string][]string{}, "VApp.Export")
	by := checked(t, s.connect(t), Asked{})
	wantFinding(t, by, "vsphere/privileges-nfc", OK)
	wantFinding(t, by, "vsphere/privileges-unknown", OK, "VApp.Export", "leave it out")
}

func TestWithoutVMsTheRootFolderIsLookedAt(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(map[string][]string{"group-d1": {"VirtualMachine.Interact.PowerOn"}})
	wantFinding(t, checked(t, s.connect(t), Asked{}), "vsphere/privileges-power", Warning, "VirtualMachine.Interact.PowerOn on the root folder")
}

func TestASessionThatEndsMeanwhileLacksNothing(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	session := s.connect(t)
	once := times(1)
	s.set(func() {
		s.spoil = func(method string, _ http.ResponseWriter) bool {
			if method == "HasPrivilegeOnEntities" && once() {
				s.endSessions(t)
			}
			return false
		}
	})
	wantFinding(t, checked(t, session, Asked{VMs: s.chosen(t, "DC0_H0_VM0")}), "vsphere/privileges-snapshots", OK)
	if n := s.count("Login"); n != 2 {
		t.Errorf("the session did not end: %d log-ins", n)
	}
}

func TestPrivilegesOnAnESXiHostAreThoseOfTheRoles(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.ESX())
	const readOnly = -2
	s.object(t, "VirtualMachine", "ha-host_VM0").Entity().EffectiveRole = []int32{readOnly}
	by := checked(t, s.connect(t), Asked{VMs: s.chosen(t, "ha-host_VM0", "ha-host_VM1")})
	wantFinding(t, by, "vsphere/privileges-power", Warning, "VirtualMachine.Interact.PowerOff on VM ha-host_VM0;", "PowerOn on VM ha-host_VM0")
	wantFinding(t, by, "vsphere/privileges-https", OK)
	wantFinding(t, by, "vsphere/licence", OK, "Evaluation")
	if n := s.count("HasPrivilegeOnEntities"); n != 0 {
		t.Error("an ESXi host was asked what only a vCenter can answer")
	}
}

func TestVMsThatAreGoneAreFound(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	by := checked(t, s.connect(t), Asked{VMs: append(s.chosen(t, "DC0_H0_VM0"), VM{Ref: "vm-4711", Name: "web01"})})
	wantFinding(t, by, "vsphere/vm", Blocker, "web01 (vm-4711)")
	wantFinding(t, by, "vsphere/privileges-snapshots", OK)
}

func TestTheClockIsCompared(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	session := s.connect(t)
	s.set(func() {
		s.spoil = func(method string, w http.ResponseWriter) bool {
			if method == "CurrentTime" {
				_, _ = fmt.Fprintf(w, `<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><CurrentTimeResponse xmlns="urn:vim25"><returnval>%s</returnval></CurrentTimeResponse></Body></Envelope>`,
					time.Now().Add(-10*time.Minute).UTC().Format(time.RFC3339Nano))
			}
			return method == "CurrentTime"
		}
	})
	wantFinding(t, checked(t, session, Asked{}), "vsphere/clock", Warning, "10m0s behind", "NTP")
}

func TestLicences(t *testing.T) {
	for _, c := range []struct {
		licence types.LicenseManagerLicenseInfo
		level   Level
		says    string
	}{
		{types.LicenseManagerLicenseInfo{EditionKey: "esxBasic", Name: "VMware vSphere 7 Hypervisor"}, Warning, "over SSH"},
		{types.LicenseManagerLicenseInfo{EditionKey: "esx.enterprisePlus.cpuPackage", Name: "VMware vSphere 7 Enterprise Plus"}, OK, "Enterprise Plus"},
		{types.LicenseManagerLicenseInfo{EditionKey: "eval", Name: "Evaluation Mode", Properties: []types.KeyAnyValue{{Key: "expirationDate", Value: time.Unix(0, 0)}}}, Blocker, "expired"},
	} {
		wantFinding(t, map[string]Finding{"vsphere/licence": licence(c.licence, time.Now())}, "vsphere/licence", c.level, c.says)
	}
}

// greeter is a port that says something to whoever comes.
func greeter(t testing.TB, text string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

func TestThePortsOfTheHostsAreTried(t *testing.T) {
	elsewhere(t)
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	host := s.object(t, "HostSystem", "DC0_H0").(*simulator.HostSystem)
	host.Config.Network = &types.HostNetworkInfo{Vnic: []types.HostVirtualNic{{Spec: types.HostVirtualNicSpec{Ip: &types.HostIpConfig{IpAddress: "10.20.30.40"}}}}}
	https, _ := listen(t, nil, nil)
	closed := closedPort(t)
	for name, c := range map[string]struct {
		host    string
		resolve map[string]string
		want    map[string]Level
		says    map[string]string
	}{
		"well": {"esx1", map[string]string{"esx1:443": https, "esx1:902": greeter(t, "220 VMware Authentication Daemon Version 1.10\r\n")},
			map[string]Level{"vsphere/host": OK, "vsphere/host-443": OK, "vsphere/host-902": OK}, nil},
		"closed": {"esx1", map[string]string{"esx1:443": closed, "esx1:902": closed},
			map[string]Level{"vsphere/host-443": Warning, "vsphere/host-902": Warning}, map[string]string{"vsphere/host-443": "exports (nfc) cannot be used", "vsphere/host-902": "firewalls"}},
		"another service": {"esx1", map[string]string{"esx1:443": greeter(t, "hello"), "esx1:902": greeter(t, "SSH-2.0-dropbear")},
			map[string]Level{"vsphere/host-443": Warning, "vsphere/host-902": Warning}, map[string]string{"vsphere/host-902": `not VMware's: "SSH-"`}},
		"unknown name": {"esx1..unknown", nil,
			map[string]Level{"vsphere/host-name": Warning}, map[string]string{"vsphere/host-name": "10.20.30.40"}},
	} {
		t.Run(name, func(t *testing.T) {
			host.Name = c.host
			config := s.config()
			config.Resolve = c.resolve
			session, err := Connect(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close(context.Background())
			by := checked(t, session, Asked{VMs: s.chosen(t, "DC0_H0_VM0", "DC0_H0_VM1")})
			for code, level := range c.want {
				wantFinding(t, by, code, level, c.host, c.says[code])
			}
		})
	}
	host.Name = "127.0.0.1"
	host.Runtime.InMaintenanceMode = true
	wantFinding(t, checked(t, s.connect(t), Asked{VMs: s.chosen(t, "DC0_H0_VM0")}), "vsphere/host", Warning, "maintenance")
	host.Runtime.ConnectionState = types.HostSystemConnectionStateNotResponding
	wantFinding(t, checked(t, s.connect(t), Asked{VMs: s.chosen(t, "DC0_H0_VM0")}), "vsphere/host", Blocker, "notResponding")
}

func TestTheOwnVMIsFoundInEitherOrderOfBytes(t *testing.T) {
	s := newSite(t, simulator.VPX())
	s.guard(nil)
	session := s.connect(t)
	own := s.object(t, "VirtualMachine", "DC0_H0_VM1").(*simulator.VirtualMachine)
	own.Config.Uuid = "421f245c-7fa8-60fa-6af6-a46351ced0eb"
	own.Config.InstanceUuid = "5012ab34-1111-2222-3333-444455556666"
	for _, uuid := range []string{"5C241F42-A87F-FA60-6AF6-A46351CED0EB", "421f245c-7fa8-60fa-6af6-a46351ced0eb", "34ab1250-1111-2222-3333-444455556666"} {
		pretend(t, "VMware, Inc.", uuid)
		if ref, err := session.OwnVM(t.Context()); err != nil || ref != own.Self.Value {
			t.Errorf("OwnVM() with the UUID %s = %q, %v; want %s", uuid, ref, err, own.Self.Value)
		}
	}
	own.Config.Flags.DiskUuidEnabled = types.NewBool(true)
	wantFinding(t, checked(t, session, Asked{}), "vsphere/own-vm", OK, own.Self.Value)
	for want, spoil := range map[string]func(){
		"set disk.EnableUUID": func() { own.Config.Flags.DiskUuidEnabled = nil },
		"ctkEnabled = FALSE":  func() { own.Config.ChangeTrackingEnabled = types.NewBool(true) },
		"out of its vApp":     func() { own.Parent = nil },
	} {
		was, config, flags := own.Parent, *own.Config, own.Config.Flags
		spoil()
		wantFinding(t, checked(t, session, Asked{}), "vsphere/own-vm", Warning, "hotadd cannot be had", want)
		own.Parent, *own.Config, own.Config.Flags = was, config, flags
	}
	s.guard(map[string][]string{own.Self.Value: {"VirtualMachine.Config.AddExistingDisk"}, own.ResourcePool.Value: {"Resource.AssignVMToPool"}})
	wantFinding(t, checked(t, session, Asked{Purposes: []Purpose{ForHotadd}}), "vsphere/privileges-hotadd", Blocker, "AddExistingDisk on this program's own VM", "AssignVMToPool on pool Resources")

	pretend(t, "VMware, Inc.", "00000000-0000-0000-0000-000000000001")
	_, err := session.OwnVM(t.Context())
	wantError(t, err, ErrNotFound, "00000000-0000-0000-0000-000000000001")
	s.object(t, "VirtualMachine", "DC0_H0_VM0").(*simulator.VirtualMachine).Config.Uuid = own.Config.Uuid
	pretend(t, "VMware, Inc.", own.Config.Uuid)
	_, err = session.OwnVM(t.Context())
	wantError(t, err, ErrAmbiguous, "uuid.bios")
	pretend(t, "VMware, Inc.", "nonsense")
	if _, err := session.OwnVM(t.Context()); err == nil {
		t.Error("a UUID that is none was accepted")
	}
}

func TestAConnectionThatFailsIsAFinding(t *testing.T) {
	_, err := Connect(t.Context(), Config{Server: closedPort(t)})
	wantFinding(t, map[string]Finding{"vsphere/connect": Refused(err)}, "vsphere/connect", Blocker, "nothing listens")
	s := newSite(t, simulator.VPX())
	c := s.config()
	c.Password = "wrong"
	_, err = Connect(t.Context(), c)
	if f := Refused(err); f.Code != "vsphere/login" || f.Level != Blocker {
		t.Errorf("Refused(%v) = %+v", err, f)
	}
}
