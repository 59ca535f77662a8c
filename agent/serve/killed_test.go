package serve

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// agentPart is by what a process of these tests knows that it is an agent of its own.
const agentPart = "serve-test-agent"

// playAgent runs an agent until it is killed, with the settings that its argument names.
func playAgent() error {
	s, err := config.Load(os.Args[1])
	if err != nil {
		return err
	}
	return Run(context.Background(), s, "test", os.Stderr, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// mortal is an agent in a process of its own.
type mortal struct {
	appliance
	server *proc.Server
}

func born(t testing.TB, folder string) *mortal {
	t.Helper()
	s, err := proc.Start(t.Context(), proc.Service{Command: proc.Command{Name: agentPart, Args: []string{filepath.Join(folder, "config.yaml")}}, Part: true, Socket: filepath.Join(folder, "agent.sock")})
	if err != nil {
		t.Fatal(err)
	}
	return &mortal{appliance{folder: folder}, s}
}

func (m *mortal) kill(t testing.TB) {
	t.Helper()
	if err := m.server.Kill(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, m.folder)
}

// ours begins the IDs of this process's migrations, and of none beside it.
func ours() string { return fmt.Sprintf("k%d-", os.Getpid()) }

// nothingLeft waits until nothing runs or is mounted that an agent of a folder began.
func nothingLeft(t testing.TB, folder string) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := remains(t, folder)
		if len(left) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("left are %q", left)
		}
	}
}

// remains are the processes, mounts and loop devices that have to do with a folder.
func remains(t testing.TB, folder string) (left []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if text, err := os.ReadFile(p); err == nil && strings.Contains(string(text), folder) && !strings.HasPrefix(string(text), agentPart) {
			left = append(left, strings.ReplaceAll(string(text), "\x00", " "))
		}
		if text, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(text), "hyper2kvm-runner\x00"+ours()) {
			left = append(left, "a runner")
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), folder) {
		left = append(left, "a mount")
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if text, err := os.ReadFile(l); err == nil && strings.Contains(string(text), folder) {
			left = append(left, "a loop device of "+strings.TrimSpace(string(text)))
		}
	}
	return left
}

func (a *appliance) post(t testing.TB, path, body string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://appliance/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reply, err := a.local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode
}

// mill has one small guest migrated again and again, by agents that are killed.
type mill struct {
	*mortal
	took time.Duration
}

func newMill(t testing.TB) *mill {
	t.Helper()
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon"})...)
	folder := t.TempDir()
	started(t, folder, "").stop(t) // which leaves its settings
	if err := guesttest.Small(t.Context(), filepath.Join(folder, "from", "small.raw"), guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	m := &mill{mortal: born(t, folder)}
	t.Cleanup(func() { m.kill(t) })
	began := time.Now()
	m.submit(t, ours()+"whole")
	m.done(t, ours()+"whole")
	m.took = time.Since(began)
	return m
}

func (m *mill) submit(t testing.TB, id string) {
	t.Helper()
	body := fmt.Sprintf(`{"id":%q,"spec":{"name":%q,"source":{"storage":"from","path":"small.raw"},"target":{"storage":"to"},"engine":"direct","test":{"skip":"not part of this"}}}`, id, id)
	if status := m.post(t, "/migrations", body); status != 202 {
		t.Fatalf("%s is answered with %d", id, status)
	}
}

// until waits until a migration is as it should be.
func (m *mill) until(t testing.TB, id string, is func(model.Migration) bool) model.Migration {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		var v model.Migration
		m.get(t, "/migrations/"+id, &v)
		if is(v) {
			return v
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %+v", id, v)
		}
	}
}

func (m *mill) done(t testing.TB, id string) {
	t.Helper()
	v := m.until(t, id, func(v model.Migration) bool { return v.State == model.StateDone || v.State == model.StateFailed })
	if v.State != model.StateDone || v.Verdict != model.VerdictUntested || len(v.Operations) != 1 || !v.Operations[0].Done || v.Operations[0].Problem.Code != "" {
		t.Errorf("%s ended as %+v", id, v)
	}
}

// again kills the agent, starts another, and holds the migration to what it should be.
func (m *mill) again(t testing.TB, id string) {
	t.Helper()
	m.kill(t)
	m.mortal = born(t, m.folder)
	m.done(t, id)
	if status := m.post(t, "/migrations/"+id+"/verify", `{"againstSource":true}`); status != 202 {
		t.Errorf("verify is answered with %d", status)
	}
	v := m.until(t, id, func(v model.Migration) bool { return v.State == model.StateDone || v.State == model.StateFailed })
	if last := v.Operations[len(v.Operations)-1]; v.State != model.StateDone || len(last.Verified) != 2 {
		t.Errorf("verified, %s is %+v", id, v)
	}
}

func TestAnAgentThatIsKilledAtAnyStageGoesOn(t *testing.T) {
	m := newMill(t)
	for i, stage := range []model.StageName{"fetch", "flatten", "inspect", "plan", "fix", "convert", "test"} {
		id := ours() + "at-" + string(stage)
		m.submit(t, id)
		m.until(t, id, func(v model.Migration) bool {
			return v.State == model.StateDone || i < len(v.Stages) && v.Stages[i].State != model.StageStatePending
		})
		m.again(t, id)
	}
}

func TestAnAgentThatIsKilledAtAnyMomentGoesOn(t *testing.T) {
	m := newMill(t)
	for i := range 20 {
		id := fmt.Sprintf("%sm%d", ours(), i)
		m.submit(t, id)
		time.Sleep(rand.N(m.took))
		m.again(t, id)
	}
	if left := remains(t, m.folder); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	if entries, err := os.ReadDir(filepath.Join(m.folder, "to")); err != nil || len(entries) != 21 {
		t.Errorf("there are %d results, %v", len(entries), err)
	}
}
