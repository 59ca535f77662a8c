package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

var update = flag.Bool("update", false, "keep the state folder of this version as the one that later versions are tested with")

// kept is the state folder of the version that wrote it. Records' versions grow with
// new files beside it: one that is there stays as it is.
const kept = "testdata/state-v1.tar.gz"

// remembered is what was in a state folder when it was kept.
type remembered struct {
	States map[string]model.State       `json:"states"`
	Stages map[string]int               `json:"stages"`
	Kinds  map[string][]string          `json:"kinds"` // of operations
	Plans  map[string]model.PlanSummary `json:"plans"`
}

// every is a worker whose migrations end as their names say. It proves nothing of
// migrations.
type every struct{}

func (every) Work(_ context.Context, j engine.Job) (engine.Result, error) {
	j.Tell(engine.Update{Stages: []model.Stage{{Name: model.StageNameFetch, State: model.StageStateDone}, {Name: model.StageNamePlan, State: model.StageStateDone}}, Folder: model.Place{Storage: "to", Path: j.ID}})
	switch {
	case strings.HasPrefix(j.ID, "failed"):
		return engine.Result{}, &engine.Failure{Problem: model.Problem{Code: "blocked", Detail: "a concern forbids it"}}
	case strings.HasPrefix(j.ID, "planned") && j.Plan.ApprovedBy == "":
		j.Tell(engine.Update{Plan: model.PlanSummary{Digest: "sha256:" + model.Digest(strings.Repeat("ab", 32)), Changes: 3}})
		return engine.Result{Held: true}, nil
	}
	return engine.Result{Verdict: model.VerdictProved}, nil
}

// states are those that migrations are kept in, by their IDs.
var states = map[string]model.State{"done1": model.StateDone, "done2": model.StateDone, "failed1": model.StateFailed, "planned1": model.StatePlanned, "queued1": model.StateQueued, "paused1": model.StatePaused, "cancelled1": model.StateCancelled}

// keep makes the state folder that is kept.
func keep(t *testing.T) {
	t.Helper()
	a, _ := lived(t)
	for id, state := range states {
		s := model.Spec{Source: model.Source{Storage: "from", Path: id + ".vmx"}, Target: model.Target{Storage: "to"}, Keys: []model.Key{{Device: "all", Secret: "files-luks"}}}
		if state == model.StatePlanned {
			s.Approval = model.SpecApprovalRequired
		}
		if state == model.StateQueued || state == model.StatePaused || state == model.StateCancelled {
			s.Target.Storage = "elsewhere" // which nobody reaches
		}
		if _, err := a.Submit(t.Context(), id, s, id, "ops", "key-"+id); err != nil {
			t.Fatal(err)
		}
	}
	for id, kind := range map[string]model.OperationKind{"paused1": model.OperationKindPause, "cancelled1": model.OperationKindCancel} {
		if _, _, err := a.Order(t.Context(), id, engine.Order{Kind: kind, By: "ops"}); err != nil {
			t.Fatal(err)
		}
	}
	a.settled(t)
	text, err := json.Marshal(a.seen())
	if err != nil {
		t.Fatal(err)
	}
	a.close(t)
	if err := os.WriteFile(filepath.Join(a.state, "known.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	pack(t, a.state)
}

// settled waits until all is as the names say.
func (a *appliance) settled(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := maps.Clone(states)
		for id, m := range a.all() {
			if left[id] == m.State {
				delete(left, id)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("not yet: %v", left)
		}
	}
}

func (a *appliance) seen() remembered {
	k := remembered{map[string]model.State{}, map[string]int{}, map[string][]string{}, map[string]model.PlanSummary{}}
	for id, m := range a.all() {
		k.States[id], k.Stages[id], k.Plans[id] = m.State, len(m.Stages), m.Plan
		for _, o := range m.Operations {
			k.Kinds[id] = append(k.Kinds[id], fmt.Sprintf("%s %t", o.Kind, o.Done))
		}
	}
	return k
}

func pack(t *testing.T, state string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(kept)
	if err != nil {
		t.Fatal(err)
	}
	packed := gzip.NewWriter(f)
	out := tar.NewWriter(packed)
	if err := errors.Join(out.AddFS(os.DirFS(state)), out.Close(), packed.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func unpackKept(t *testing.T) (state string) {
	t.Helper()
	state = t.TempDir()
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(packed); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return state
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(state, filepath.FromSlash(head.Name))
		if head.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			var text []byte
			if text, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, text, fs.FileMode(head.Mode).Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAStateOfAnEarlierVersionIsOpened: migrations in all states, people, secrets, the
// audit log, and what is kept; and work goes on.
func TestAStateOfAnEarlierVersionIsOpened(t *testing.T) {
	if *update {
		keep(t)
	}
	state := unpackKept(t)
	text, err := os.ReadFile(filepath.Join(state, "known.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want remembered
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	a := opened(t, state)
	got := a.seen()
	if diff := cmp.Diff(want, got); diff != "" || len(want.States) != len(states)+5 {
		t.Errorf("of %d migrations: %s", len(want.States), diff)
	}
	if _, err := a.gate.Login(t.Context(), netip.MustParseAddr("192.0.2.1"), "marta", password); err != nil {
		t.Errorf("a user: %v", err)
	}
	if s, err := a.secrets.Open(t.Context(), "files-luks"); err != nil || string(s) != secretText {
		t.Errorf("a secret: %v", err)
	}
	if log, err := a.Audited(t.Context(), 0, 100); err != nil || len(log) < 3 {
		t.Errorf("the audit log has %d entries, %v", len(log), err)
	}
	if r, size, err := a.OpenKept(t.Context(), "vm0", "vm0-report.md"); err != nil || size != 8 || r.Close() != nil {
		t.Errorf("a report of %d bytes: %v", size, err)
	}
	if _, _, err := a.Order(t.Context(), "planned1", engine.Order{Kind: model.OperationKindApprove, By: "ops", Digest: want.Plans["planned1"].Digest}); err != nil {
		t.Errorf("a plan is approved: %v", err)
	}
	a.done(t, "planned1")
	a.submit(t, "new")
	a.done(t, "new")
	if t.Failed() {
		t.Logf("they are %v", slices.Sorted(maps.Keys(got.States)))
	}
}
