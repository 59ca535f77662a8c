package vsphere

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

func mapped(s pipeline.Storages) change {
	return func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Storages = s }
}

// TestDisksGoWhereTheirDatastoresAreMapped: what is mapped to nothing stays in the
// migration's folder, and a name that is none is told with those that there are.
func TestDisksGoWhereTheirDatastoresAreMapped(t *testing.T) {
	l := newLab(t, nil)
	l.fill(t)
	ssd := filepath.Join(t.TempDir(), "ssd", "small")
	r := l.run(t, mapped(pipeline.Storages{"lün": ssd, "fast": "/nowhere"}))
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := []string{r.Disks[0].Path, r.Disks[1].Path}; !slices.Equal(got, []string{filepath.Join(l.folder, "small-disk0.raw"), filepath.Join(ssd, "small-disk1.raw")}) {
		t.Errorf("the disks are %q", got)
	}
	l.arrived(t, r)
	xml, err := os.ReadFile(r.XMLPath())
	if err != nil || !strings.Contains(string(xml), filepath.Join(ssd, "small-disk1.raw")) {
		t.Errorf("the domain is %s, %v", xml, err)
	}
	want := []string{`warning: the storage "fast" is mapped, and no disk lies on it: they lie on "fast + \"ssd\" 5%", "lün"`}
	var told []string
	for _, c := range r.Plan.Concerns {
		if strings.HasPrefix(c.Code, "source/storage") {
			told = append(told, string(c.Level)+": "+c.Text)
		}
	}
	if !slices.Equal(told, want) {
		t.Errorf("told is %q, want %q", told, want)
	}
	text := pipeline.PlanText(*r.Plan)
	for _, line := range []string{"disk        0 goes from \"fast + \\\"ssd\\\" 5%\" to the migration's own folder\n", "disk        1 goes from \"lün\" to " + ssd + "\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in\n%s", line, text)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pipeline.Discard(l.folder, r.ID, File); err != nil {
		t.Error(err)
	}
	for _, folder := range []string{l.folder, ssd} {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", folder, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(ssd)); err != nil {
		t.Errorf("what was there before is not: %v", err)
	}
}

func TestAFolderOfAnotherMigrationTakesNoDisks(t *testing.T) {
	l := newLab(t, nil)
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "migration.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.run(t, mapped(pipeline.Storages{"lün": other})).Go(t.Context()); !errors.Is(err, transfer.ErrTarget) || !strings.Contains(err.Error(), "holds another migration") {
		t.Errorf("Go = %v, want %v", err, transfer.ErrTarget)
	}
	l.wants(t, on)
}

func TestAMigrationThatFailsLeavesNoDisksElsewhere(t *testing.T) {
	l := newLab(t, nil)
	ssd := filepath.Join(t.TempDir(), "small")
	r := l.run(t, mapped(pipeline.Storages{"lün": ssd}), before("test", func() error { return errors.New("the target is on fire") }),
		func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Skip = nil })
	if err := r.Go(t.Context()); err == nil || len(r.Disks) != 2 {
		t.Fatalf("Go = %v with %d disks", err, len(r.Disks))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := l.run(t, mapped(pipeline.Storages{"lün": ssd}), before("fetch", func() error {
		if left, err := os.ReadDir(ssd); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("before it begins anew there are %v, %v", left, err)
		}
		return errors.New("seen")
	}), func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Skip = nil })
	if err := again.Go(t.Context()); err == nil || err.Error() != "seen" {
		t.Errorf("Go = %v", err)
	}
}

func TestADiskThatIsOnNoneOfTheNamesGoesToTheFolder(t *testing.T) {
	l := newLab(t, nil)
	r := l.run(t, live, mapped(pipeline.Storages{"none": "/nowhere"}), func(_ *Config, o *pipeline.Options, _ *pipeline.Config) { o.Until, o.Skip = "plan", nil })
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == "source/storage-unknown" && c.Level == fixer.Warning }) {
		t.Errorf("concerns are %+v", r.Plan.Concerns)
	}
	if _, err := os.Stat("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a plan makes folders")
	}
	l.wants(t, on)
}
