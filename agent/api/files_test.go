package api

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/engine/enginetest"
)

func TestFilesAreDownloadedInParts(t *testing.T) {
	h := newHarness(t, func(_ context.Context, j engine.Job) (engine.Result, error) {
		j.Tell(engine.Update{Folder: model.Place{Storage: "kvm", Path: "a"}})
		return engine.Result{Verdict: model.VerdictUntested}, nil
	})
	folder := filepath.Join(h.folder, "kvm", "a")
	if err := os.MkdirAll(filepath.Join(folder, "evidence"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a-disk0.qcow2": "0123456789", "evidence/serial.log": "login:"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	var op model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx")).into(t, &op)
	h.until(t, op.Migration, model.StateDone)
	if err := h.engine.Keep(t.Context(), op.Migration, []engine.File{enginetest.File("a-report.md", "# ")}); err != nil {
		t.Fatal(err)
	}
	files := "/migrations/" + op.Migration + "/files"
	var list struct{ Items []model.File }
	if h.ask(t, "viewer", "GET", files, nil).into(t, &list); len(list.Items) != 3 || list.Items[1].Path != "a-report.md" || !list.Items[1].Kept || list.Items[0].Size != 10 {
		t.Errorf("the files are %+v", list.Items)
	}
	for _, c := range []struct {
		role, name, bytes string
		status            int
		want              string
	}{
		{"viewer", "evidence/serial.log", "", 200, "login:"},
		{"viewer", "a-report.md", "", 200, "# "},
		{"viewer", "a-disk0.qcow2", "", 403, ""},
		{"operator", "a-disk0.qcow2", "bytes=3-5", 206, "345"},
		{"operator", "a-disk0.qcow2", "bytes=20-", 416, ""},
		{"operator", "link", "", 404, ""},
		{"operator", "../../vmware/web01", "", 404, ""},
		{"operator", "none", "", 404, ""},
	} {
		var headers []string
		if c.bytes != "" {
			headers = []string{"Range", c.bytes}
		}
		if a := h.ask(t, c.role, "GET", files+"/"+c.name, nil, headers...); a.status != c.status || c.want != "" && string(a.body) != c.want {
			t.Errorf("%s as %s: %d %q", c.name, c.role, a.status, a.body)
		}
	}
}
