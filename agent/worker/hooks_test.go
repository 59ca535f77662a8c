package worker

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/webhook"
)

// program puts a hook into the folder of hooks, where nobody has to be let read it.
func (b *bench) program(t *testing.T, name, script string) {
	t.Helper()
	for _, dir := range []string{b.worker.Hooks.Folder, filepath.Dir(b.worker.Hooks.Folder)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.worker.Hooks.Folder, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestHooksRunBeforeAndAfterStages(t *testing.T) {
	b := newBench(t)
	told := filepath.Join(b.worker.Hooks.Folder, "told") // which the program may not make, but may write to
	if err := errors.Join(os.WriteFile(told, nil, 0o600), os.Chmod(told, 0o666)); err != nil {
		t.Fatal(err)
	}
	b.program(t, "tell", "cat >>"+told)
	var posted []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		posted = append(posted, string(text))
	}))
	defer server.Close()
	b.webhooks = map[string]webhook.Target{"desk": {URL: server.URL}}
	s := small()
	s.Hooks = []model.Hook{{When: "before", Stage: "fetch", Program: "tell"}, {When: "after", Stage: "convert", Program: "tell"}, {When: "after", Stage: "test", Program: "tell"}, {When: "after", Stage: "fix", Webhook: "desk"}}
	b.submit(t, "small", s)
	if m := b.ends(t, "small", model.StateDone, model.StateFailed); m.State != model.StateDone {
		t.Fatalf("it ended as %+v", m.Problem)
	}
	text, err := os.ReadFile(told)
	if err != nil || strings.Count(string(text), "\n") != 2 || !strings.Contains(string(text), `"when":"before","stage":"fetch"`) || !strings.Contains(string(text), `"when":"after","stage":"convert"`) {
		t.Errorf("the program was told %s, %v", text, err) // the test was skipped, and nothing comes after it
	}
	if len(posted) != 1 || !strings.Contains(posted[0], `"stage":"fix"`) {
		t.Errorf("the webhook was told %q", posted)
	}
}

func TestAHookThatFailsStopsTheMigration(t *testing.T) {
	b := newBench(t)
	b.program(t, "refuse", "echo no change window; exit 1")
	s := small()
	s.Hooks = []model.Hook{{When: "before", Stage: "convert", Program: "refuse"}}
	b.submit(t, "small", s)
	m := b.ends(t, "small", model.StateDone, model.StateFailed)
	if m.Problem.Code != "hook-failed" || !strings.Contains(m.Problem.Detail, "no change window") || m.Stages[4].State != model.StageStateDone || m.Stages[5].State != model.StageStatePending {
		t.Fatalf("it ended as %+v", m)
	}
	b.program(t, "refuse", "exit 0")
	b.order(t, "small", engine.Order{Kind: model.OperationKindRetry})
	if m = b.ends(t, "small", model.StateDone, model.StateFailed); m.State != model.StateDone {
		t.Errorf("tried again, it ended as %+v", m.Problem)
	}
	s.Name, s.Hooks = "other", []model.Hook{{When: "before", Stage: "fetch", Program: "../../bin/sh"}}
	b.submit(t, "other", s)
	if m = b.ends(t, "other", model.StateDone, model.StateFailed); m.Problem.Code != "bad-hook" {
		t.Errorf("a program that is no hook: %+v", m.Problem)
	}
}
