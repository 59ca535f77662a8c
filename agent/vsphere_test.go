package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
	"hyper2kvm/vmware/vmwaretest"
)

// vcenterLab is a server, and a command line that may use it.
type vcenterLab struct {
	*vmwaretest.Server
	password string // a file
}

func newVCenterLab(t *testing.T) *vcenterLab {
	t.Helper()
	l := &vcenterLab{vmwaretest.Start(t, vmwaretest.Options{}), filepath.Join(t.TempDir(), "password")}
	if err := os.WriteFile(l.password, []byte(l.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// told runs a command with what reaches the server.
func (l *vcenterLab) told(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	args = append(args, "--user", l.User, "--password-file", l.password, "--thumbprint", l.ThumbprintSHA256)
	return told(t, want, args...)
}

func told(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	if got := run(t.Context(), args, &out, &words); got != want {
		t.Fatalf("hyper2kvm %s ends with %d, want %d:\n%s%s", strings.Join(args, " "), got, want, out.String(), words.String())
	}
	return out.String(), words.String()
}

func TestVMsAreListedWithWhatStandsAgainstThem(t *testing.T) {
	l := newVCenterLab(t)
	l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 30}}})
	l.AddVM(t, vmwaretest.VM{Name: "db01", Disks: []vmwaretest.Disk{{Size: 1 << 30, Sharing: "sharingMultiWriter"}}})
	out, _ := l.told(t, 0, "vsphere", "vms", l.URL.Host)
	if !strings.Contains(out, "/web01 ") || !strings.Contains(out, "blocker vsphere/") || strings.Count(out, "\n") != 3 {
		t.Errorf("listed are\n%s", out)
	}
	out, _ = l.told(t, 0, "vsphere", "vms", l.URL.Host, "web*", "--output", "json")
	var rows []vmware.Row
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || rows[0].Name != "web01" {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
	if out, _ = l.told(t, 0, "vsphere", "vms", l.URL.Host, "--output", "csv"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "db01") {
		t.Errorf("as CSV:\n%s", out)
	}
	if _, words := l.told(t, exitUsage, "vsphere", "vms", l.URL.Host, "--output", "yaml"); !strings.Contains(words, "text, json or csv") {
		t.Error(words)
	}
}

func TestVMsAreListedWithTheirTags(t *testing.T) {
	l := newVCenterLab(t)
	vm := l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 30}}})
	l.tag(t, vm, "stage", "prod")
	out, _ := l.told(t, 0, "vsphere", "vms", l.URL.Host, "--output", "json")
	var rows []vmware.Row
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || !slices.Equal(rows[0].Tags, []vmware.Tag{{Category: "stage", Name: "prod"}}) {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
	if out, _ = l.told(t, 0, "vsphere", "vms", l.URL.Host, "--output", "csv"); !strings.Contains(out, ",stage/prod,") {
		t.Errorf("as CSV:\n%s", out)
	}
}

// tag gives a VM a tag of a new category.
func (l *vcenterLab) tag(t *testing.T, vm vmwaretest.VM, category, name string) {
	t.Helper()
	session, err := vmware.Connect(t.Context(), vmware.Config{Server: l.URL.Host, User: l.User, Password: vmware.Secret(l.Password), Thumbprint: l.ThumbprintSHA256})
	if err != nil {
		t.Fatal(err)
	}
	h := vmware.Hand{Session: session, Migration: "TAG", Ledger: &forgetful{}, Log: slog.New(slog.DiscardHandler)}
	err = h.Mark(t.Context(), vm.Ref.Value, vmware.Marks{Tag: vmware.Tag{Category: category, Name: name}, CreateTag: true})
	if err := errors.Join(err, session.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// TestVMsAreShownAsTheyCome: each is to be seen before the next is asked for.
func TestVMsAreShownAsTheyCome(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out}
	shown := func(path string) {
		t.Helper()
		if !strings.Contains(out.String(), path+" ") {
			t.Errorf("%s is not shown when the next is asked for:\n%s", path, out.String())
		}
	}
	here := func(yield func(vmware.Row, error) bool) {
		for _, path := range []string{"/DC0/vm/web01", "/DC0/vm/web02"} {
			yield(vmware.Row{VM: vmware.VM{Path: path}}, nil)
			shown(path)
		}
	}
	there := func(yield func(model.VM, error) bool) {
		for _, path := range []string{"/DC0/vm/db01", "/DC0/vm/db02"} {
			yield(model.VM{Path: path}, nil)
			shown(path)
		}
	}
	if err := errors.Join(a.vmTable(here), a.vmTable(rowsOf(there))); err != nil {
		t.Error(err)
	}
}

func TestAServerIsChecked(t *testing.T) {
	l := newVCenterLab(t)
	l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 30}}})
	out, _ := l.told(t, 0, "vsphere", "check", l.URL.Host, "web01")
	for _, want := range []string{"ok      vsphere/server: ", "vsphere/vddk: VMware's VDDK is not given", "vsphere/govc: ", "vsphere/ovftool: ", "vsphere/own-vm"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if _, words := l.told(t, exitBadInput, "vsphere", "check", l.URL.Host, "nobody"); !strings.Contains(words, "there is no such VM") {
		t.Error(words)
	}
	l.Password = "wrong"
	if err := os.WriteFile(l.password, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := l.told(t, exitBlocked, "vsphere", "check", l.URL.Host); !strings.Contains(out, "blocker vsphere/login") || strings.Contains(out, "wrong\"") {
		t.Errorf("with a wrong password:\n%s", out)
	}
}

func TestAServerTellsItsThumbprintAndUsersTheirRole(t *testing.T) {
	l := newVCenterLab(t)
	if out, _ := told(t, 0, "vsphere", "thumbprint", l.URL.Host); !strings.Contains(out, "SHA-256 "+l.ThumbprintSHA256+"\n") {
		t.Errorf("it tells\n%s, want %s", out, l.ThumbprintSHA256)
	}
	if out, _ := told(t, 0, "vsphere", "role", "--form", "govc"); !strings.Contains(out, "VirtualMachine.State.CreateSnapshot") {
		t.Errorf("the role is\n%s", out)
	}
	if _, words := told(t, exitUsage, "vsphere", "role", "--for", "fun"); !strings.Contains(words, "want ") {
		t.Error(words)
	}
}

func TestWhatMigratingTakesIsSummedUp(t *testing.T) {
	l := newVCenterLab(t)
	l.AddVM(t, vmwaretest.VM{Name: "web01", Folder: "Prod", Disks: []vmwaretest.Disk{{Size: 1 << 30}}})
	l.AddVM(t, vmwaretest.VM{Name: "web02", Folder: "Prod", Disks: []vmwaretest.Disk{{Size: 3 << 30}}})
	out, _ := l.told(t, 0, "vsphere", "assess", l.URL.Host, "--wave", "folder", "--output", "json")
	var a vmware.Assessment
	if err := json.Unmarshal([]byte(out), &a); err != nil || a.Total.VMs != 2 || a.Total.Size != 4<<30 || a.Waves["/DC0/vm/Prod"].VMs != 2 {
		t.Errorf("%v:\n%s", err, out)
	}
	if out, _ = l.told(t, 0, "vsphere", "assess", l.URL.Host); !strings.Contains(out, "total ") || !strings.Contains(out, "  nfc     4 GiB  ") {
		t.Errorf("for people:\n%s", out)
	}
	told(t, exitUsage, "vsphere", "assess")
}

// TestWhatBecomesOfVMsIsTold until it is interrupted.
func TestWhatBecomesOfVMsIsTold(t *testing.T) {
	l := newVCenterLab(t)
	l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	ctx, stop := context.WithCancelCause(t.Context())
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"vsphere", "watch", l.URL.Host, "--user", l.User, "--password-file", l.password, "--thumbprint", l.ThumbprintSHA256}, in, io.Discard)
		in.Close()
	}()
	lines := json.NewDecoder(out)
	for _, want := range []string{"web01", "db01"} {
		var c vmware.Change
		if err := lines.Decode(&c); err != nil || c.Kind != vmware.Added || c.VM.Name != want {
			t.Fatalf("told is %+v, %v, want %s", c, err, want)
		}
		if want == "web01" {
			l.AddVM(t, vmwaretest.VM{Name: "db01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
		}
	}
	stop(errInterrupted)
	go io.Copy(io.Discard, out)
	if status := <-ended; status != exitInterrupted {
		t.Errorf("interrupted, it ends with %d", status)
	}
	if left := l.Sessions(); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

// TestWhatAMigrationLeftIsSwept by its ID, and nothing else.
func TestWhatAMigrationLeftIsSwept(t *testing.T) {
	l := newVCenterLab(t)
	vm := l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}, Snapshots: []string{"before the update"}})
	session, err := vmware.Connect(t.Context(), vmware.Config{Server: l.URL.Host, User: l.User, Password: vmware.Secret(l.Password), Thumbprint: l.ThumbprintSHA256})
	if err != nil {
		t.Fatal(err)
	}
	lost := &forgetful{}
	for _, id := range []string{"KILLED", "OTHER"} {
		h := vmware.Hand{Session: session, Migration: id, Ledger: lost, Log: slog.New(slog.DiscardHandler)}
		if _, err := h.Snapshot(t.Context(), vm.Ref.Value, vmware.SnapshotPolicy{Label: "live"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.told(t, exitUsage, "vsphere", "sweep", l.URL.Host)
	l.told(t, 0, "vsphere", "sweep", l.URL.Host, "KILLED")
	out, _ := l.told(t, 0, "vsphere", "vms", l.URL.Host, "--output", "json")
	if strings.Contains(out, "KILLED") || !strings.Contains(out, "hyper2kvm OTHER live") || !strings.Contains(out, "before the update") {
		t.Errorf("left is\n%s", out)
	}
}

// forgetful is a ledger that is lost.
type forgetful struct{ n int }

func (f *forgetful) Note(vmware.Trace) (string, error)       { f.n++; return fmt.Sprint(f.n), nil }
func (*forgetful) Settle(string, vmware.State, string) error { return nil }
func (*forgetful) Traces() ([]vmware.Trace, error)           { return nil, nil }

func TestAPasswordIsNoArgument(t *testing.T) {
	_, words := told(t, exitBadInput, "inspect", "vsphere://root:hunter2@esx1/web01")
	if !strings.Contains(words, "--password-file") || strings.Contains(words, "hunter2") {
		t.Error(words)
	}
	_, words = told(t, exitBadInput, "inspect", "vsphere://root@esx1/web01") // nobody is there to be asked
	if !strings.Contains(words, "give --password-file FILE: there is no terminal") {
		t.Error(words)
	}
	several := filepath.Join(t.TempDir(), "several")
	if err := os.WriteFile(several, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, words = told(t, exitBadInput, "inspect", "vsphere://root@esx1/web01", "--password-file", several)
	if !strings.Contains(words, "--password-file: "+several+" has more than one line") {
		t.Error(words)
	}
	_, words = told(t, exitUsage, "inspect", "vsphere://esx1/web01")
	if !strings.Contains(words, "--user") {
		t.Error(words)
	}
}

// TestHowTheHostsAreLoggedInToOverSSH: by a key, by a password in a file, or by one that is
// asked for, after the server's.
func TestHowTheHostsAreLoggedInToOverSSH(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]struct {
		ssh      *transport.SSH
		password string
	}{
		"": {},
		"--ssh-user root --ssh-key /k --ssh-fingerprint SHA256:x":                               {&transport.SSH{User: "root", Key: "/k", Fingerprint: "SHA256:x", Port: 22}, ""},
		"--ssh-user root --ssh-password-file " + file + " --ssh-known-hosts /h --ssh-port 2222": {&transport.SSH{User: "root", HostKeys: "/h", Port: 2222}, "hunter2"},
		"--ssh-user root --ssh-key /k --ssh-password-file " + file:                              {&transport.SSH{User: "root", Key: "/k", Port: 22}, "hunter2"},
		"--ssh-user root": {&transport.SSH{User: "root", Port: 22}, "typed"},
	} {
		var f vsphereFlags
		c := &cobra.Command{}
		f.addReading(c)
		if err := c.ParseFlags(strings.Fields(text)); err != nil {
			t.Fatal(err)
		}
		a := &app{stdout: io.Discard, stderr: io.Discard, stdin: bufio.NewReader(strings.NewReader("the server's\ntyped\n"))}
		got, err := f.config(a, "vsphere://mover@vc/web01")
		if err != nil {
			t.Fatal(err)
		}
		password := ""
		if got.SSH != nil && got.SSH.Password != nil {
			password, got.SSH.Password = got.SSH.Password(), nil
		}
		if diff := cmp.Diff(want.ssh, got.SSH, cmpopts.IgnoreUnexported(transport.SSH{})); diff != "" || password != want.password || got.Server.Password != "the server's" {
			t.Errorf("%s: the password %q, want %q\n%s", text, password, want.password, diff)
		}
	}
	for _, args := range [][]string{{"--ssh-key", "/k"}, {"--ssh-password-file", file}} {
		_, words := told(t, exitUsage, append(args, "inspect", "vsphere://mover@vc/web01", "--password-file", file)...)
		if !strings.Contains(words, "--ssh-user is missing") {
			t.Error(words)
		}
	}
	_, words := told(t, exitBadInput, "inspect", "vsphere://mover@vc/web01", "--password-file", file, "--ssh-user", "root") // nobody is there to be asked
	if !strings.Contains(words, "give --ssh-password-file FILE: there is no terminal") {
		t.Error(words)
	}
}

// TestAVMIsMigratedFromItsServer: TEST is left out, since a machine takes minutes here.
func TestAVMIsMigratedFromItsServer(t *testing.T) {
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts disks as root: set NEED_TOOLS=1")
	}
	l := newVCenterLab(t)
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	vm := l.AddVM(t, vmwaretest.VM{Name: "web01.example.com", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}, NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}}})
	source, to := "vsphere://"+l.URL.Host+"/web01.example.com", t.TempDir()
	ssd := t.TempDir()
	on := vm.Disks[0].Datastore + "=" + ssd
	if out, _ := l.told(t, 0, "plan", source, "--storage", on); !strings.Contains(out, "linux/fstab-names") || !strings.Contains(out, "to "+ssd+"/web01.example.com\n") {
		t.Errorf("the plan is\n%s", out)
	}
	l.plansWhatMapsMake(t, vm, source, ssd)
	for _, mark := range []string{"--mark-note=moved", "--mark-name={name}-old", "--mark-folder=/DC0/vm/Old", "--mark-tag=state/moved", "--mark-disconnect"} {
		if _, words := l.told(t, exitUsage, "migrate", source, "--to", to, "--no-test", "--power-off", mark); !strings.Contains(words, "give --no-test or --mark options, not both") {
			t.Errorf("with %s it says %s", mark, words)
		}
	}
	if state, _ := l.state(t, vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("what is refused leaves it %s", state)
	}
	_, words := l.told(t, 0, "migrate", source, "--to", to, "--no-test", "--format", "raw", "--transport", "https", "--network", "*=lab", "--storage", on, "--memory", "2G", "--power-off", "--shutdown-wait", "30s", "--name", "kvm-{name}")
	folder := filepath.Join(to, "kvm-web01.example.com")
	xml, err := os.ReadFile(filepath.Join(folder, "kvm-web01.example.com.xml"))
	if info, err := os.Stat(filepath.Join(ssd, "kvm-web01.example.com", "kvm-web01.example.com-disk0.raw")); err != nil || info.Size() != vm.Disks[0].Size {
		t.Errorf("its disk did not go to where its datastore is mapped: %v", err)
	}
	if err != nil || !strings.Contains(string(xml), "2097152") || !strings.Contains(string(xml), `network="lab"`) {
		t.Errorf("%v: the domain is\n%s\n%s", err, xml, words)
	}
	if state, name := l.state(t, vm); state != types.VirtualMachinePowerStatePoweredOff || name != "web01.example.com" {
		t.Errorf("it is %s and called %q: nothing was proved", state, name)
	}
	if strings.Contains(words, l.Password) {
		t.Errorf("the password is told:\n%s", words)
	}
	if out, _ := l.told(t, 0, "vsphere", "restore", folder); out != "as before: power of web01.example.com\n" {
		t.Errorf("taken back is %q", out)
	}
	if state, _ := l.state(t, vm); state != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("it is %s", state)
	}
	if after, err := os.ReadFile(filepath.Join(folder, "kvm-web01.example.com.xml")); err != nil || strings.Contains(string(xml), `state="down"`) || !strings.Contains(string(after), `<link state="down"`) {
		t.Errorf("the result has its network beside a source that runs: %v\n%s", err, after)
	}
	if left := l.Leaks(); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// TestARehearsalBootsWhatMapsMake: what runs the guest ends at once, since one takes
// minutes here.
func TestARehearsalBootsWhatMapsMake(t *testing.T) {
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts disks as root: set NEED_TOOLS=1")
	}
	programs, raw := t.TempDir(), filepath.Join(t.TempDir(), "small.raw")
	qemu, err := proc.Look("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ncase \"$*\" in *kvm-web01*) exit 1;; esac\nexec " + qemu + ` "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(programs, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	l := newVCenterLab(t)
	vm := l.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}, NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}}})
	to := t.TempDir()
	l.told(t, exitFailed, "rehearse", "vsphere://"+l.URL.Host+"/web01", "--to", to, "--transport", "https", "--name", "kvm-{name}",
		"--cpus", "3", "--memory", "2G", "--network", "VM Network=bridge:br7", "--storage", vm.Disks[0].Datastore+"="+t.TempDir())
	m, err := pipeline.LoadMigration(filepath.Join(to, "kvm-web01-rehearsal"))
	if err != nil {
		t.Fatal(err)
	}
	if d := m.Domain; d == nil || d.Name != "kvm-web01" || d.Sockets != 3 || d.Cores != 1 || d.Memory != 2<<30 || d.NICs[0].Bridge != "br7" || d.NICs[0].MAC != "00:50:56:01:02:03" {
		t.Errorf("what was to boot is %+v", d)
	}
}

// plansWhatMapsMake looks for all that maps decide in a plan, as text and as JSON.
func (l *vcenterLab) plansWhatMapsMake(t *testing.T, vm vmwaretest.VM, source, ssd string) {
	t.Helper()
	args := []string{"plan", source, "--name", "kvm-{name}", "--cpus", "3", "--memory", "2G", "--network", "*=bridge:br7", "--storage", vm.Disks[0].Datastore + "=" + ssd}
	folder := filepath.Join(ssd, "kvm-web01.example.com")
	text, _ := l.told(t, 0, args...)
	for _, want := range []string{
		"name        kvm-web01.example.com\n", "firmware    bios\n", "CPUs        3, 1 to a socket; the source has 1\n", "memory      2048 MiB; the source has ",
		`nic         00:50:56:01:02:03 goes from "VM Network" to the bridge "br7"` + "\n", fmt.Sprintf("disk        0 goes from %q to %s\n", vm.Disks[0].Datastore, folder),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the plan:\n%s", want, text)
		}
	}
	text, _ = l.told(t, 0, append(args, "--output", "json")...)
	plan, err := fixers.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := machine.Becomes{Name: "kvm-web01.example.com", Firmware: machine.BIOS, CPUs: 3, Cores: 1, WasCPUs: 1, Memory: 2 << 30, WasMemory: plan.Target.WasMemory,
		NICs:  []machine.Joins{{MAC: "00:50:56:01:02:03", From: "VM Network", Bridge: "br7"}},
		Disks: []machine.GoesTo{{From: vm.Disks[0].Datastore, Folder: folder}}}
	if diff := cmp.Diff(want, *plan.Target); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
}

func (l *vcenterLab) state(t *testing.T, vm vmwaretest.VM) (types.VirtualMachinePowerState, string) {
	t.Helper()
	var v mo.VirtualMachine
	if err := object.NewVirtualMachine(l.Client, vm.Ref).Properties(t.Context(), vm.Ref, []string{"name", "runtime.powerState"}, &v); err != nil {
		t.Fatal(err)
	}
	return v.Runtime.PowerState, v.Name
}
