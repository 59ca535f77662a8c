package serve

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/testers/guests"
)

// bootWithin is how long a migration with its boot test may take on a machine without KVM.
const bootWithin = 40 * time.Minute

// realGuest has a real guest's files in the storage for sources.
func realGuest(t *testing.T, folder string) (vmx string) {
	t.Helper()
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("builds and boots a guest through a whole agent: set NEED_VMS=matrix")
	}
	recipe, err := guests.Named("web01")
	if err != nil {
		t.Fatal(err)
	}
	g, err := guests.Build(t.Context(), recipe, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "from", "web01"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(slices.Clone(g.VMDKs), g.VMX) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "from", "web01", filepath.Base(name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "web01/" + filepath.Base(g.VMX)
}

// ends waits until a migration that was asked for has ended, and tells of its stages.
func (a *appliance) ends(t *testing.T, id string) (m model.Migration) {
	t.Helper()
	began, told := time.Now(), ""
	for ; ; time.Sleep(time.Second) {
		a.get(t, "/migrations/"+id, &m)
		var stages []string
		for _, s := range m.Stages {
			stages = append(stages, fmt.Sprintf("%s %s", s.Name, s.State))
		}
		if now := string(m.State) + ": " + strings.Join(stages, ", "); now != told {
			told = now
			t.Logf("%s after %v: %s", id, time.Since(began).Round(time.Second), now)
		}
		if slices.Contains([]model.State{model.StateDone, model.StateFailed}, m.State) && m.Operations[len(m.Operations)-1].Done {
			return m
		}
		if time.Since(began) > bootWithin {
			t.Fatalf("%s is %+v", id, m)
		}
	}
}

// TestARealGuestIsProvedThroughTheAPI asks an agent for what a person would ask it for:
// whether the guest was healthy on VMware's hardware, its plan, its migration with exactly
// that plan, and its test once more. Each boot is a real one.
func TestARealGuestIsProvedThroughTheAPI(t *testing.T) {
	folder := t.TempDir()
	vmx := realGuest(t, folder)
	a := started(t, folder, "")
	ask := func(id, spec, more string) model.Migration {
		t.Helper()
		body := fmt.Sprintf(`{"id":%q,"spec":{"source":{"storage":"from","path":%q},%s}%s}`, id, vmx, spec, more)
		if status := a.post(t, "/migrations", body); status != 202 {
			t.Fatalf("%s is answered with %d", id, status)
		}
		return a.ends(t, id)
	}
	if m := ask("healthy", `"mode":"test","target":{"storage":"to"},"test":{"hardware":"vmware"}`, ""); m.Verdict != model.VerdictProved || m.Stages[4].State != model.StageStateSkipped {
		t.Errorf("as it is on VMware's hardware it is %+v", m)
	}
	m := ask("look", `"mode":"plan"`, "")
	if m.Verdict != model.VerdictRead || m.Plan.Changes == 0 {
		t.Fatalf("its plan is %+v", m)
	}
	var plan json.RawMessage
	a.get(t, "/migrations/look/plan", &plan)
	m = ask("moved", `"target":{"storage":"to"}`, `,"plan":`+string(plan))
	if m.State != model.StateDone || m.Verdict != model.VerdictProved || m.GivenPlan == "" || m.Plan.Changes == 0 {
		t.Fatalf("it ended as %+v", m)
	}
	var files struct{ Items []model.File }
	a.get(t, "/migrations/moved/files", &files)
	for _, name := range []string{"web01-boot.png", "web01-report.md", "web01.xml"} {
		if !slices.ContainsFunc(files.Items, func(f model.File) bool { return f.Path == name && f.Kept && f.Size > 0 }) {
			t.Errorf("%s is not kept of it", name)
		}
	}
	if status := a.post(t, "/migrations/moved/test", "{}"); status != 202 {
		t.Fatalf("its test is answered with %d", status)
	}
	if m = a.ends(t, "moved"); m.Verdict != model.VerdictProved || len(m.Operations) != 2 || m.Operations[1].Problem.Code != "" {
		t.Errorf("tested again it is %+v", m)
	}
}
