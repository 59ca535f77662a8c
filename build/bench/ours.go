package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		Args: []string{"migrate", "--no-test", "--engine", engine, "--allow-folder", filepath.Dir(g.VMDK), "--to", to, g.VMX}})
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

// copyAlone copies a guest's disk with qemu-img, as fast as it can, and changes nothing.
func (b bench) copyAlone(ctx context.Context, g guests.Guest) (Cost, error) {
	target := filepath.Join(b.scratch, "copy.qcow2")
	cost, readings, _, err := measure(ctx, proc.Command{Name: "qemu-img",
		Args: []string{"convert", "-W", "-m", "16", "-O", "qcow2", "--", g.VMDK, target}})
	if err != nil {
		return cost, err
	}
	cost.Phases = phases([]mark{{"convert", 0}}, cost.Wall, readings)
	return cost, os.Remove(target)
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
	larger := filepath.Join(dir, "larger.qcow2")
	for _, args := range [][]string{
		{"convert", "-f", "vmdk", "-O", "qcow2", b.twin.VMDK, larger},
		{"resize", "-q", "-f", "qcow2", larger, "1T"},
	} {
		if _, err := proc.Run(ctx, "qemu-img", args...); err != nil {
			return guests.Guest{}, err
		}
	}
	g, err := b.converted(ctx, dir, larger, "qcow2", "monolithicSparse")
	return g, errors.Join(err, os.Remove(larger))
}

// converted is the twin in another folder, its disk made of another as a kind of VMDK.
func (b bench) converted(ctx context.Context, dir, from, format, kind string) (guests.Guest, error) {
	g := b.twin
	g.VMDK, g.VMX = filepath.Join(dir, filepath.Base(b.twin.VMDK)), filepath.Join(dir, filepath.Base(b.twin.VMX))
	settings, err := os.ReadFile(b.twin.VMX)
	if err == nil {
		err = os.WriteFile(g.VMX, settings, 0o600)
	}
	if err == nil {
		_, err = proc.Run(ctx, "qemu-img", "convert", "-f", format, "-O", "vmdk", "-o", "subformat="+kind, from, g.VMDK)
	}
	return g, err
}

// Data disks beside the twin's own, and what each holds in bytes.
const (
	dataDisks = 7
	dataSize  = 256 << 20
)

// withDataDisks gives the twin seven data disks more, which are copied side by
// side.
func (b bench) withDataDisks(ctx context.Context) (guests.Guest, error) {
	dir, err := b.folder("many")
	if err != nil {
		return guests.Guest{}, err
	}
	g := b.twin
	g.VMX = filepath.Join(dir, filepath.Base(b.twin.VMX))
	settings, err := os.ReadFile(b.twin.VMX)
	if err != nil {
		return g, err
	}
	if err := os.Symlink(b.twin.VMDK, filepath.Join(dir, filepath.Base(b.twin.VMDK))); err != nil {
		return g, err
	}
	for i := range dataDisks {
		name := fmt.Sprintf("data%d.vmdk", i)
		path := filepath.Join(dir, name)
		if _, err := proc.Run(ctx, "qemu-img", "create", "-q", "-f", "vmdk", path, fmt.Sprint(4*dataSize)); err != nil {
			return g, err
		}
		if _, err := proc.Run(ctx, "qemu-io", "-f", "vmdk", "-c", fmt.Sprintf("write -P %d 1M %d", i+1, dataSize), path); err != nil {
			return g, err
		}
		settings = fmt.Appendf(settings, "scsi0:%d.present = \"TRUE\"\nscsi0:%[1]d.deviceType = \"scsi-hardDisk\"\nscsi0:%[1]d.fileName = \"%s\"\n", i+1, name)
	}
	return g, os.WriteFile(g.VMX, settings, 0o600)
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
