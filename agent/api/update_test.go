package api

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/update"
)

// playedUpdates plays an appliance that can be updated, so that what is answered is held to
// the description. It proves nothing of updates: the package update does.
type playedUpdates struct{}

func (playedUpdates) Read(context.Context) (u model.Update, failed, err error) {
	return model.Update{Running: "1.0", Other: "1.1", State: model.UpdateStateOnTrial, Installed: time.Unix(1e9, 0).UTC(), Takes: true, Note: "version 1.1 is started next"}, fmt.Errorf("%w: it ends too early", update.ErrArchive), nil
}

func (playedUpdates) Start(_ context.Context, r model.UpdateRequest) error {
	if strings.HasSuffix(r.Path, ".raw") {
		return fmt.Errorf("%w: it is a disk", update.ErrArchive)
	}
	return nil
}

func (playedUpdates) Put(_ context.Context, from io.Reader, _ bool) error {
	text, err := io.ReadAll(from)
	if string(text) == "old" {
		return fmt.Errorf("%w: 1.0 runs already", update.ErrVersion)
	}
	return err
}

func TestAnUpdateIsForAdmins(t *testing.T) {
	h := newHarness(t, done)
	if a := h.want(t, "viewer", "GET", "/appliance/update", nil, 200, ""); !strings.Contains(string(a.body), `"code":"bad-update"`) {
		t.Errorf("why the last one was not installed is not told: %s", a.body)
	}
	h.want(t, "operator", "POST", "/appliance/update", `{"storage":"vmware","path":"a.update"}`, 403, "forbidden")
	h.want(t, "admin", "POST", "/appliance/update", `{"storage":"vmware","path":"a.update"}`, 202, "")
	h.want(t, "admin", "POST", "/appliance/update", `{"storage":"vmware","path":"a.raw"}`, 422, "bad-update")
	h.want(t, "admin", "POST", "/appliance/update", `{"url":"http://mirror.example.org/a.update"}`, 400, "bad-request")
	h.want(t, "operator", "PUT", "/appliance/update", "new", 403, "forbidden", octets...)
	h.want(t, "admin", "PUT", "/appliance/update?restart=true", "new", 200, "", octets...)
	h.want(t, "admin", "PUT", "/appliance/update", "old", 409, "not-later", octets...)
	a := h.want(t, "admin", "GET", "/audit?limit=3", nil, 200, "")
	for _, entry := range []string{`"action":"putUpdate"`, `"detail":"not-later"`} {
		if !strings.Contains(string(a.body), entry) {
			t.Errorf("the audit log lacks %s:\n%s", entry, a.body)
		}
	}
}

var octets = []string{"Content-Type", "application/octet-stream"}
