package accel

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// memory is a choice that a process left for the next one: a KVM that hangs
// costs the whole deadline, and does not heal while the host is up.
type memory struct {
	Boot   string `json:"boot"`   // the host's boot ID
	Kernel string `json:"kernel"` // the probe's guest
	Choice Choice `json:"choice"`
}

// remembered is the choice made since the host booted, or a new one. A memory
// that cannot be read or written costs a probe, nothing else.
func remembered(ctx context.Context) (Choice, error) {
	dir, err := os.UserCacheDir()
	if err != nil || bootID() == "" {
		return Try(ctx)
	}
	file := filepath.Join(dir, "hyper2kvm", "accel.json")
	kernel, err := Kernel()
	if err != nil {
		return Try(ctx) // says what is missing, if that matters
	}
	var m memory
	if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &m) == nil && m.Boot == bootID() && m.Kernel == kernel {
		return m.Choice, nil
	}
	choice, err := Try(ctx)
	if err != nil {
		return choice, err
	}
	if err := remember(file, memory{bootID(), kernel, choice}); err != nil {
		choice.Reason += fmt.Sprintf(" (tried again next time: %v)", err)
	}
	return choice, nil
}

func remember(file string, m memory) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temporary := file + ".new"
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
