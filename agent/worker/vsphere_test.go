package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/pipeline"
)

// ledger plays what brings guests: it owes something in the folders that it is told. It
// brings none, so nothing is proved of VMs here.
type ledger struct {
	VSphere
	owed map[string]bool
}

func (l ledger) Owes(folder string) (bool, error) { return l.owed[folder], nil }
func (ledger) File() string                       { return "vsphere.json" }

func (l ledger) Restore(_ context.Context, _ Server, folder string, _ *slog.Logger) error {
	delete(l.owed, folder)
	return nil
}

// mover is a clerk that knows a server.
func mover(t *testing.T) (*Worker, ledger) {
	t.Helper()
	l := ledger{owed: map[string]bool{}}
	w := clerk(t)
	w.VSphere, w.Server = l, func(_ context.Context, name string) (Server, error) {
		if name != "vc1" {
			return Server{}, errors.New("there is no such server")
		}
		return Server{Name: name, Address: "vcenter.example.com", Password: []byte("x"), Transports: []string{"hotadd"}}, nil
	}
	return w, l
}

func ofVM() model.Spec {
	s := small()
	s.Source = model.Source{Vsphere: model.SourceVM{Server: "vc1", VM: "/DC0/vm/web01.prod", PowerOff: true, ShutdownWait: 60, Marks: model.Marks{Note: "moved"}}}
	return s
}

func TestAVMIsOrderedByItsServersName(t *testing.T) {
	w, _ := mover(t)
	s := ofVM()
	s.Source.Vsphere.Transports = []model.SourceVMTransports{"https"}
	s.Target.Cpus, s.Target.Memory, s.Target.Networks = 4, 1<<30, map[string]string{"*": "default"}
	o, err := w.order(t.Context(), job(s))
	if err != nil {
		t.Fatal(err)
	}
	v := o.VM
	if o.Options.Source != "vsphere://vc1/DC0/vm/web01.prod" || v.VM != "/DC0/vm/web01.prod" || v.Address != "vcenter.example.com" || !v.PowerOff || v.ShutdownWait != time.Minute || v.Marks.Note != "moved" || !slices.Equal(v.Transports, []string{"https"}) {
		t.Errorf("it is ordered as %s, %+v", o.Options.Source, v)
	}
	if got := o.Options.Target; got.CPUs != 4 || got.Memory != 1<<30 || got.Networks["*"] != "default" || filepath.Base(o.Folder) != "web01.prod" {
		t.Errorf("its target is %+v in %s", got, o.Folder)
	}
	s.Target.Storages = map[string]string{"fast": "to"}
	o, err = w.order(t.Context(), job(s))
	if to, failed := w.Storages.Now().Find("to"); err != nil || failed != nil || o.Options.Storages["fast"] != filepath.Join(to.Path, "web01.prod") || len(o.Options.Storages) != 1 {
		t.Errorf("its disks go to %q, %v", o.Options.Storages, err)
	}
	if p, err := w.options(model.Spec{Mode: model.ModePlan, Source: s.Source, Target: s.Target}); err != nil || p.Storages["fast"] != o.Options.Storages["fast"] {
		t.Errorf("a plan tells that they go to %q, %v", p.Storages, err)
	}
	s.Target.Storages = map[string]string{"fast": "from"}
	if _, err := w.order(t.Context(), job(s)); err == nil || !strings.Contains(err.Error(), "the storage from is for the use as source alone") {
		t.Errorf("disks are put into a storage of sources: %v", err)
	}
	s.Target.Storages = nil
	s.Source.Vsphere.Server = "vc2"
	if _, err := w.order(t.Context(), job(s)); err == nil {
		t.Error("a server that is not there is taken")
	}
	w.VSphere = nil
	if _, err := w.order(t.Context(), job(s)); err == nil {
		t.Error("who cannot bring VMs takes one")
	}
}

// TestAVMRunsOnForWhatChangesNothing until its plan is approved.
func TestAVMRunsOnForWhatChangesNothing(t *testing.T) {
	w, _ := mover(t)
	approval := func(approved string) engine.Job {
		j := job(ofVM())
		j.Spec.Approval = model.SpecApprovalRequired
		j.Plan = model.PlanSummary{Digest: "sha256:x", ApprovedBy: approved}
		return j
	}
	mode := func(m model.Mode) engine.Job {
		j := job(ofVM())
		j.Spec.Mode = m
		return j
	}
	for name, c := range map[string]struct {
		job  engine.Job
		live bool
	}{
		"migrate": {job(ofVM()), false}, "rehearse": {mode(model.ModeRehearse), true}, "plan": {mode(model.ModePlan), true}, "inspect": {mode(model.ModeInspect), true},
		"test": {mode(model.ModeTest), true}, "to be approved": {approval(""), true}, "approved": {approval("ops"), false},
	} {
		if o, err := w.order(t.Context(), c.job); err != nil || o.VM.Live != c.live {
			t.Errorf("%s: %+v, %v, want live %v", name, o.VM, err, c.live)
		}
	}
}

// TestAServerIsNeededByWhatAsksIt and no other task waits for one that is away.
func TestAServerIsNeededByWhatAsksIt(t *testing.T) {
	w, l := mover(t)
	task := func(task engine.Task, source bool) *VM {
		t.Helper()
		j := job(ofVM())
		j.Task, j.Args.AgainstSource = task, source
		o, err := w.order(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		return o.VM
	}
	if task(engine.Undo, false) != nil || task(engine.Test, false) != nil || task(engine.Verify, false) != nil || task(engine.Clear, false) != nil {
		t.Error("a task that asks a server for nothing needs it")
	}
	if v := task(engine.Verify, true); v == nil || v.Live {
		t.Errorf("to verify the source there is %+v", v)
	}
	folder, err := w.Storages.Now().Path(Folder(ofVM()), true)
	if err != nil {
		t.Fatal(err)
	}
	l.owed[folder] = true
	if task(engine.Clear, false) == nil {
		t.Error("what is owed can be given back without a server")
	}
}

// TestNothingIsRemovedThatSaysWhatIsOwed before that is taken back.
func TestNothingIsRemovedThatSaysWhatIsOwed(t *testing.T) {
	w, l := mover(t)
	folder := filepath.Join(t.TempDir(), "web01")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "vsphere.json"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l.owed[folder] = true
	o := order{Folder: folder, ID: "m1"}
	if err := o.clear(t.Context(), l, slog.Default()); !errors.Is(err, errOwes) {
		t.Errorf("without a server it is cleared: %v", err)
	}
	if err := w.drop(folder); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "vsphere.json")); err != nil {
		t.Errorf("what says so is gone: %v", err)
	}
	o.VM = &VM{}
	if err := o.clear(t.Context(), l, slog.Default()); err != nil {
		t.Error(err)
	}
	if err := w.drop(folder); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing is owed, and the folder is there: %v", err)
	}
}

func TestARefusedPasswordIsMinded(t *testing.T) {
	w, _ := mover(t)
	var minded []string
	w.Refused = func(s Server, text string) { minded = append(minded, s.Name+": "+text) }
	o := order{VM: &VM{Server: Server{Name: "vc1"}}}
	w.mind(o, &engine.Failure{Problem: model.Problem{Code: "bad-input", Detail: "no such VM"}})
	w.mind(o, pipeline.ErrBusy)
	w.mind(o, &engine.Failure{Problem: model.Problem{Code: CodeLogin, Detail: "refused"}})
	if !slices.Equal(minded, []string{"vc1: refused"}) {
		t.Errorf("minded are %q", minded)
	}
}
