package serve

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/notify"
	"hyper2kvm/fixers/guest/guesttest"
)

// TestAGuestInAWatchedFolderIsMigratedAndTold is a whole life: the guest is found, it is
// migrated, a program is told, and an agent that runs again does neither once more.
func TestAGuestInAWatchedFolderIsMigratedAndTold(t *testing.T) {
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	var mu sync.Mutex
	var told []string
	desk := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m notify.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(m.State))
	}))
	defer desk.Close()
	folder := t.TempDir()
	more := "watch: [{storage: from, folder: '.', target: to, settled: 5s, spec: {engine: direct, test: {skip: not part of this}}}]\n" +
		"notify: {webhooks: [{name: desk, url: '" + desk.URL + "', events: [running, done, failed]}]}\n"
	a := started(t, folder, more)
	if err := guesttest.Small(t.Context(), filepath.Join(folder, "from", "small.raw"), guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	var list model.MigrationList
	for limit := time.Now().Add(time.Minute); len(list.Items) == 0 || list.Items[0].State != model.StateDone; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the migrations are %+v", list.Items)
		}
		a.get(t, "/migrations", &list)
	}
	if _, err := os.Stat(filepath.Join(folder, "to", "small", "small-disk0.qcow2")); err != nil {
		t.Error(err)
	}
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		got := strings.Join(told, " ")
		mu.Unlock()
		if got == "running done" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("told was %q", got)
		}
	}
	a.stop(t)
	b := started(t, folder, more)
	time.Sleep(7 * time.Second) // for the folder to settle
	if b.get(t, "/migrations", &list); len(list.Items) != 1 {
		t.Errorf("once more started, there are %d migrations", len(list.Items))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 {
		t.Errorf("once more started, told was %q", told)
	}
}
