package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/disks"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/source"
)

// diskScheme begins a source or a target that is an attached disk: disk:ID, and of a guest
// with several disks disk:ID,ID.
const diskScheme = "disk:"

// diskIDs are the disks that a text names; nil if it names none.
func diskIDs(text string) []string {
	list, ok := strings.CutPrefix(text, diskScheme)
	if !ok || list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// targetDisks are the disks of an appliance that the flags called disk-to name, in the
// order of the guest's.
func (f *flags) targetDisks() ([]string, error) {
	list := make([]string, len(f.devices))
	for _, text := range f.devices {
		var i int
		number, id, _ := strings.Cut(text, "=")
		id, named := strings.CutPrefix(id, diskScheme)
		if _, err := fmt.Sscan(number, &i); err != nil || !named || id == "" || i < 0 || i >= len(list) || list[i] != "" {
			return nil, fmt.Errorf("%w: --disk-to %s: with --appliance write 0=disk:ID with an attached disk of the appliance's, each of the guest's disks once from 0 on", errUsage, text)
		}
		list[i] = id
	}
	return list, nil
}

// attachedDisks is a guest on disks that are attached to this machine.
func (a *app) attachedDisks(ctx context.Context, text, folder string) (pipeline.Origin, error) {
	var paths []string
	for _, id := range diskIDs(text) {
		path, err := disks.ThisMachine().Find(ctx, id, a.log())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		paths = append(paths, path)
	}
	return pipeline.Devices(filepath.Base(folder), paths), nil
}
