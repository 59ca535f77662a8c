package boot

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAVersionIsOnTrialIfTheMenuSaysSo by BIOS: by UEFI it takes the firmware.
func TestAVersionIsOnTrialIfTheMenuSaysSo(t *testing.T) {
	folder := t.TempDir()
	for line, want := range map[string]bool{"quiet hyper2kvm.trial": true, "quiet": false, "hyper2kvm.trials=0": false} {
		file := filepath.Join(folder, "cmdline")
		if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := onTrial(file, filepath.Join(folder, "none")); got != want {
			t.Errorf("onTrial(%q) = %v", line, got)
		}
	}
}
