package serve

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

//go:embed hyper2kvm.service
var unit string

// TestSystemdTakesTheUnit: it knows all that the unit says. That a migration runs within
// these bounds is proved where the unit is started, in the appliance.
func TestSystemdTakesTheUnit(t *testing.T) {
	guesttest.Need(t, "systemd-analyze")
	path := filepath.Join(t.TempDir(), "hyper2kvm.service")
	text := strings.ReplaceAll(unit, "/usr/bin/hyper2kvm", "/bin/true")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	if _, err := (proc.Command{Name: "systemd-analyze", Args: []string{"verify", path}, Both: said}).Run(t.Context()); err != nil || strings.Contains(said.String(), "hyper2kvm.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
}
