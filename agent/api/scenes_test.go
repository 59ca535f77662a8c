package api

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/engine/enginetest"
	"hyper2kvm/fixers"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline"
)

const examplePassword = "four calm badgers hum"

// scenes are of all operations that need something. What is not here is called as it is,
// and every operation has to answer with 2xx.
var scenes = map[string]scene{
	"readMigration":   {set: about("done", model.StateDone)},
	"changeSchedule":  {set: about("waits", model.StateRunning)},
	"forgetMigration": {set: about("done", model.StateDone)},
	"approvePlan":     {set: about("held", model.StatePlanned)},
	"pauseMigration":  {set: about("waits", model.StateRunning)},
	"resumeMigration": {set: paused},
	"retryMigration":  {set: about("fails", model.StateFailed)},
	"cancelMigration": {set: about("waits", model.StateRunning)},
	"undoMigration":   {set: about("done", model.StateDone)},
	"verifyMigration": {set: about("done", model.StateDone)},
	"testMigration":   {set: about("done", model.StateDone)},
	"readPlan":        {set: about("done", model.StateDone)},
	"readFacts":       {set: about("done", model.StateDone)},
	"listFiles":       {set: about("done", model.StateDone)},
	"readFile":        {set: about("done", model.StateDone)},
	"readOperation":   {set: about("done", model.StateDone)},
	"followEvents": {alone: func(t *testing.T, h *harness) {
		h.ask(t, "socket", "POST", "/migrations", request("done.vmx"))
		h.follow(t, `"state":"done"`, "Last-Event-ID", "0")
	}},
	"makeFirstCode": {fresh: true},
	"makeFirstAdmin": {fresh: true, set: func(t *testing.T, h *harness) props {
		var made struct{ Code string }
		h.ask(t, "socket", "POST", "/setup/code", nil).into(t, &made)
		return props{body: map[string]any{"code": made.Code}, anybody: true}
	}},
	"logIn": {set: func(t *testing.T, h *harness) props {
		h.person(t, "marta")
		return props{anybody: true}
	}},
	"logOut":         {set: inSession},
	"changePassword": {fresh: true, set: inSession},
	"createUser": {set: func(t *testing.T, h *harness) props {
		h.ask(t, "socket", "DELETE", "/users/tom", nil)
		return props{}
	}},
	"changeUser":  {set: aboutUser},
	"removeUser":  {set: aboutUser},
	"endSessions": {set: aboutUser},
	"revokeToken": {set: func(t *testing.T, h *harness) props {
		var made struct{ Token model.Token }
		h.want(t, "socket", "POST", "/tokens", `{"name":"x","role":"viewer"}`, 201, "").into(t, &made)
		return props{params: map[string]string{"token": made.Token.ID}}
	}},
	"removeCertificate": {set: func(t *testing.T, h *harness) props {
		print := strings.Repeat("ab", 32)
		h.want(t, "socket", "POST", "/certificates", map[string]string{"name": "x", "role": "viewer", "fingerprint": print}, 201, "")
		return props{params: map[string]string{"fingerprint": print}}
	}},
	"putSecret":   {set: aboutSecret},
	"submitBatch": {fresh: true},
	"readBatch":   {set: aboutBatch("reading")},
	"orderBatch":  {set: aboutBatch("ordering")},
	"forgetBatch": {set: func(t *testing.T, h *harness) props {
		p := aboutBatch("forgetting")(t, h)
		h.want(t, "socket", "POST", "/batches/forgetting/cancel", nil, 202, "")
		h.until(t, "forgetting-forgetting", model.StateCancelled)
		return p
	}},
	"listStorageFiles": {set: aboutFile},
	"readStorageFile":  {set: aboutFile},
	"listUploads":      {set: aboutFile},
	"uploadPart": {alone: func(t *testing.T, h *harness) {
		h.want(t, "operator", "PUT", "/storages/vmware/uploads/whole.raw", "whole", 201, "", bytesOf("whole", 0, 5)...)
	}},
	"readUpload": {set: aboutUpload("read.raw")},
	"dropUpload": {set: aboutUpload("dropped.raw")},
	"putLibrary": {alone: func(t *testing.T, h *harness) {
		h.want(t, "socket", "PUT", "/libraries/vddk", "begun", 202, "", bytesOf("begun, and not ended", 0, 5)...)
		h.want(t, "socket", "DELETE", "/libraries/vddk/upload", nil, 204, "")
	}},
	"putUpdate": {alone: func(t *testing.T, h *harness) {
		h.want(t, "socket", "PUT", "/appliance/update", "new", 200, "", octets...)
	}},
	"readLibraryUpload": {set: aboutLibrary},
	"dropLibraryUpload": {set: aboutLibrary},
	"removeLibrary":     {set: ofLibrary, cannot: "a library is a vendor's own file: the package library has one made"},
	"readDownload":      {set: aboutDownload},
	"removeDownload":    {set: aboutDownload},
	"fetchDownload":     {set: aboutDownload},
	"joinFleet":         {cannot: noFleet},
	"invite":            {cannot: noFleet},
	"listInvitations":   {cannot: noFleet},
	"withdrawInvitation": {cannot: noFleet, set: func(*testing.T, *harness) props {
		return props{params: map[string]string{"invitation": "none"}}
	}},
	"removeAppliance": {cannot: noFleet, set: func(*testing.T, *harness) props {
		return props{params: map[string]string{"appliance": "none"}}
	}},
	"checkServer": {set: ofServer},
	"listVMs":     {set: ofServer},
	"readVM":      {set: ofServer},
	"readDisk":    {set: ofDisk},
	"useDisk":     {set: ofDisk},
	"releaseDisk": {set: ofDisk},
	"deleteSecret": {set: func(t *testing.T, h *harness) props {
		h.want(t, "socket", "PUT", "/secrets/files-luks", `{"value":"x"}`, 204, "")
		return aboutSecret(t, h)
	}},
}

// about is a migration in a state, with all that is kept of one.
func about(how string, state model.State) func(*testing.T, *harness) props {
	return func(t *testing.T, h *harness) props {
		var op model.Operation
		asked := request(how + "/vm.vmx")
		if state == model.StatePlanned {
			asked["spec"].(map[string]any)["approval"] = "required"
		}
		h.want(t, "socket", "POST", "/migrations", asked, 202, "").into(t, &op)
		h.until(t, op.Migration, state)
		record, err := json.Marshal(pipeline.Migration{Plan: &fixers.Plan{}, Facts: &inspect.Facts{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.engine.Keep(t.Context(), op.Migration, []engine.File{enginetest.File(recordFile, string(record))}); err != nil {
			t.Fatal(err)
		}
		return props{params: map[string]string{"id": op.Migration, "operation": op.ID, "path": recordFile}}
	}
}

func paused(t *testing.T, h *harness) props {
	p := about("waits", model.StateRunning)(t, h)
	h.want(t, "socket", "POST", "/migrations/"+p.params["id"]+"/pause", nil, 202, "")
	h.until(t, p.params["id"], model.StatePaused)
	return p
}

const noFleet = "this appliance is alone: the package fleet has others join"

func ofServer(*testing.T, *harness) props {
	return props{params: map[string]string{"name": "vc1", "ref": "vm-42"}}
}

// playedServers plays a vCenter, so that what is answered is held to the description. It
// proves nothing of vSphere: the package serve asks a server.
type playedServers struct{}

func (playedServers) Servers() []model.Server {
	return []model.Server{{Name: "vc1", Server: "vcenter.example.com", User: "mover", Secret: "vc1", Transports: []string{"https"}, Refused: "the password is wrong"}}
}

func (playedServers) Check(context.Context, string, model.CheckServerParams) ([]model.Finding, error) {
	return []model.Finding{{Code: "vsphere/clock", Level: model.FindingLevelOk, Text: "it is right"}}, nil
}

func (p playedServers) VMs(ctx context.Context, server string, _ model.ListVMsParams) (model.VMList, error) {
	vm, err := p.VM(ctx, server, "vm-42")
	return model.VMList{Items: []model.VM{vm}, Next: "/DC0/vm/web01"}, err
}

func (playedServers) VM(_ context.Context, server, ref string) (model.VM, error) {
	if server != "vc1" {
		return model.VM{}, &engine.Failure{Problem: model.Problem{Status: 404, Title: "Not Found", Code: "no-such-server", Detail: "there is no such server", Try: "list them"}}
	}
	return model.VM{Ref: ref, Name: "web01", Path: "/DC0/vm/web01", Power: "on", Cpus: 2, Memory: 1 << 30, Disks: []model.VMDisk{{Label: "Hard disk 1", Size: 1 << 30}}, Nics: []model.VMNIC{{Label: "Network adapter 1", Mac: "00:50:56:01:02:03", Network: "VM Network"}},
		Tags: []string{"wave/1"}, Concerns: []model.Finding{{Code: "vsphere/cbt-off", Level: model.FindingLevelInfo, Text: "changes are not tracked"}}}, nil
}

func TestAServerThatIsNotThereIsToldAsItIs(t *testing.T) {
	h := newHarness(t, done)
	h.want(t, "viewer", "GET", "/vsphere/vc2/vms", nil, 404, "no-such-server")
	none := newHarness(t, done, func(c *Config) { c.VSphere = nil })
	none.want(t, "viewer", "GET", "/vsphere/vc1/check", nil, 404, "no-such-server")
	none.want(t, "viewer", "GET", "/vsphere", nil, 200, "")
}

func ofLibrary(*testing.T, *harness) props {
	return props{params: map[string]string{"library": "vddk"}}
}

func aboutLibrary(t *testing.T, h *harness) props {
	h.ask(t, "socket", "DELETE", "/libraries/vddk/upload", nil)
	h.want(t, "socket", "PUT", "/libraries/vddk", "begun", 202, "", bytesOf("begun, and not ended", 0, 5)...)
	return ofLibrary(t, h)
}

func aboutBatch(name string) func(*testing.T, *harness) props {
	return func(t *testing.T, h *harness) props {
		h.want(t, "socket", "POST", "/batches", `{"name":"`+name+`","defaults":{"target":{"storage":"kvm"}},"migrations":[{"source":{"storage":"vmware","path":"waits/`+name+`.vmx"}}]}`, 202, "")
		h.comes(t, name, func(b model.Batch) bool { return b.Submitted })
		return props{params: map[string]string{"batch": name, "order": "cancel"}}
	}
}

func aboutFile(t *testing.T, h *harness) props {
	if err := os.WriteFile(filepath.Join(h.folder, "vmware", "small.raw"), []byte("small"), 0o600); err != nil {
		t.Fatal(err)
	}
	return props{params: map[string]string{"name": "vmware", "path": "small.raw"}}
}

func aboutUpload(name string) func(*testing.T, *harness) props {
	return func(t *testing.T, h *harness) props {
		h.want(t, "operator", "PUT", "/storages/vmware/uploads/"+name, "begun", 202, "", bytesOf("begun, and not ended", 0, 5)...)
		return props{params: map[string]string{"name": "vmware", "path": name}}
	}
}

// person is a user who is there, with the password of the examples.
func (h *harness) person(t *testing.T, name string) {
	t.Helper()
	if users := h.ask(t, "socket", "GET", "/users", nil); !strings.Contains(string(users.body), `"`+name+`"`) {
		h.want(t, "socket", "POST", "/users", map[string]string{"name": name, "role": "admin", "password": examplePassword}, 201, "")
	}
}

func inSession(t *testing.T, h *harness) props {
	h.person(t, "marta")
	cookie := h.want(t, "", "POST", "/session", map[string]string{"name": "marta", "password": examplePassword}, 200, "").cookie(t)
	return props{headers: []string{"Cookie", cookie}, anybody: true}
}

func aboutUser(t *testing.T, h *harness) props {
	h.person(t, "marta") // so that the other one is not the last admin
	h.person(t, "changed")
	return props{params: map[string]string{"name": "changed"}}
}

func aboutSecret(*testing.T, *harness) props {
	return props{params: map[string]string{"secret": "files-luks"}}
}

// played is a worker that does what the guest's folder is called.
func played(ctx context.Context, j engine.Job) (engine.Result, error) {
	how, _, _ := strings.Cut(j.Spec.Source.Path, "/")
	switch {
	case j.Task == engine.Migrate && how == "fails":
		return engine.Result{}, errors.New("it was to fail")
	case j.Task == engine.Migrate && how == "held" && j.Plan.ApprovedBy == "":
		j.Tell(engine.Update{Plan: model.PlanSummary{Digest: exampleDigest}})
		return engine.Result{Held: true}, nil
	case how == "waits":
		return waits(ctx, j)
	}
	return done(ctx, j)
}
