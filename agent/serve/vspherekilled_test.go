package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/worker"
)

// newSiteMill is a mill whose guests are a server's.
func newSiteMill(t *testing.T) (*mill, *site) {
	t.Helper()
	v := newSite(t)
	v.guest(t, "probe") // which says if this machine cannot
	folder := t.TempDir()
	a := started(t, folder, v.settings)
	v.knows(t, a, v.Password)
	a.stop(t)
	m := &mill{mortal: born(t, folder)}
	t.Cleanup(func() { m.kill(t) })
	return m, v
}

// begin asks for the migration of a VM, slowly enough to be killed in its midst.
func (m *mill) begin(t *testing.T, v *site, id, more string) {
	t.Helper()
	if status := m.post(t, "/migrations", fmt.Sprintf(`{"id":%q,"spec":%s}`, id, v.spec(v.guest(t, id), more))); status != 202 {
		t.Fatalf("%s is answered with %d", id, status)
	}
}

// at waits until a migration is in a stage.
func (m *mill) at(t *testing.T, id string, stage int) {
	t.Helper()
	m.until(t, id, func(v model.Migration) bool {
		return v.State == model.StateDone || stage < len(v.Stages) && v.Stages[stage].State != model.StageStatePending
	})
}

// TestAnAgentThatIsKilledGoesOnWithAVM: in the stages in which a server is changed or
// read most, and for the whole matrix in all.
func TestAnAgentThatIsKilledGoesOnWithAVM(t *testing.T) {
	m, v := newSiteMill(t)
	for stage, name := range []string{"fetch", "flatten", "inspect", "plan", "fix", "convert"} {
		if os.Getenv("NEED_VMS") != "matrix" && name != "fetch" && name != "convert" {
			continue
		}
		id := ours() + "vm-" + name
		m.begin(t, v, id, "")
		m.at(t, id, stage)
		m.again(t, id)
		// what is killed cannot log out: a server ends its session when that was idle
		found := slices.DeleteFunc(v.Leaks(), func(leak string) bool { return strings.HasPrefix(leak, "an open session") })
		if len(found) != 0 {
			t.Errorf("killed in %s, it leaves %q", name, found)
		}
	}
}

// TestAnAgentThatIsKilledTakesBackWhatItOwes: the snapshot of a VM that it only looks at,
// also in a folder that nobody was told of.
func TestAnAgentThatIsKilledTakesBackWhatItOwes(t *testing.T) {
	m, v := newSiteMill(t)
	vm := v.guest(t, "looked-at")
	for stage, target := range map[int]string{2: "", 3: `,"target":{"storage":"to"}`} {
		id := fmt.Sprintf("%slook-%d", ours(), stage)
		if status := m.post(t, "/migrations", fmt.Sprintf(`{"id":%q,"spec":{"mode":"plan","source":{"vsphere":{"server":"vc1","vm":"looked-at"}},"engine":"direct"%s}}`, id, target)); status != 202 {
			t.Fatalf("%s is answered with %d", id, status)
		}
		m.at(t, id, stage)
		m.kill(t)
		m.mortal = born(t, m.folder)
		if w := m.until(t, id, func(w model.Migration) bool { return w.State == model.StateDone || w.State == model.StateFailed }); w.Verdict != model.VerdictRead {
			t.Errorf("gone on with, it is %+v", w)
		}
		v.wants(t, vm, on)
	}
}

// owing is what says that the folder of its name owes something.
type owing struct {
	worker.VSphere
	name string
}

func (o owing) Owes(folder string) (bool, error) { return filepath.Base(folder) == o.name, nil }

func TestAFolderThatOwesSomethingOutlivesTheAgent(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"owes", "owes-not"} {
		if err := os.MkdirAll(filepath.Join(folder, name, "work"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := tidyScratch(folder, owing{name: "owes"}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 || left[0].Name() != "owes" {
		t.Errorf("left are %v, %v", left, err)
	}
	if err := tidyScratch(filepath.Join(folder, "none"), owing{}); err != nil {
		t.Errorf("without any: %v", err)
	}
}
