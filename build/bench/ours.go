package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/guests"
)

// migrate converts a guest with the program that make builds, without the proof:
// virt-v2v has none.
func (b bench) migrate(ctx context.Context, g guests.Guest, engine string) (Cost, error) {
	to, err := b.folder(g.Name + "-" + engine)
	if err != nil {
		return Cost{}, err
	}
	cost, readings, began, err := measure(ctx, proc.Command{Name: "hyper2kvm",
		Args: []string{"migrate", "--no-test", "--engine", engine, "--to", to, g.VMX}})
	if err != nil {
		return cost, err
	}
	m, err := pipeline.LoadMigration(filepath.Join(to, g.Name))
	if err != nil {
		return cost, err
	}
	cost.Phases = phases(stageMarks(m.Stages, began), cost.Wall, readings)
	return cost, os.RemoveAll(to)
}

// stageMarks are the stages that were run; what comes before the first is the
// program's start.
func stageMarks(stages []pipeline.Record, began time.Time) []mark {
	marks := []mark{{"start", 0}}
	var end time.Duration
	for _, s := range stages {
		if s.State != pipeline.Done {
			continue
		}
		at := max(end, s.Began.Sub(began))
		marks = append(marks, mark{s.Name, at})
		end = at + s.Took
	}
	return append(marks, mark{"report and end", end})
}

// onHugeDisk puts the twin on a disk of 1 TiB, whose last part is empty.
func (b bench) onHugeDisk(ctx context.Context) (guests.Guest, error) {
	dir, err := b.folder("huge")
	if err != nil {
		return guests.Guest{}, err
	}
	g := b.twin
	g.VMDK, g.VMX = filepath.Join(dir, filepath.Base(b.twin.VMDK)), filepath.Join(dir, filepath.Base(b.twin.VMX))
	settings, err := os.ReadFile(b.twin.VMX)
	if err != nil {
		return g, err
	}
	if err := os.WriteFile(g.VMX, settings, 0o600); err != nil {
		return g, err
	}
	larger := filepath.Join(dir, "larger.qcow2")
	for _, args := range [][]string{
		{"convert", "-f", "vmdk", "-O", "qcow2", b.twin.VMDK, larger},
		{"resize", "-q", "-f", "qcow2", larger, "1T"},
		{"convert", "-f", "qcow2", "-O", "vmdk", "-o", "subformat=monolithicSparse", larger, g.VMDK},
	} {
		if _, err := proc.Run(ctx, "qemu-img", args...); err != nil {
			return g, err
		}
	}
	return g, os.Remove(larger)
}

// save keeps a value as JSON.
func save(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
