package vmware

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/simulator"
	vapi "github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"
)

// inventory is all that may differ when something is left over, as text.
func (r *rig) inventory(t *testing.T) (lines []string) {
	t.Helper()
	r.quiet()
	for _, e := range r.Model.Map().All("VirtualMachine") {
		lines = append(lines, describe(e.(*simulator.VirtualMachine))...)
	}
	for _, e := range r.Model.Map().AllReference("VirtualMachineSnapshot") {
		lines = append(lines, "snapshot object "+e.Reference().Value)
	}
	for _, ds := range r.Model.Map().All("Datastore") {
		folder := ds.(*simulator.Datastore).Info.GetDatastoreInfo().Url
		filepath.WalkDir(folder, func(path string, _ fs.DirEntry, _ error) error {
			rel, _ := filepath.Rel(folder, path)
			lines = append(lines, "file "+rel)
			return nil
		})
	}
	return append(lines, r.tags(t)...)
}

// quiet waits for tasks that a killed session began.
func (r *rig) quiet() {
	for _, e := range r.Model.Map().AllReference("Task") {
		if task, ok := e.(*simulator.Task); ok {
			task.Wait()
		}
	}
}

func describe(v *simulator.VirtualMachine) (lines []string) {
	name := v.Self.Value
	lines = append(lines, fmt.Sprintf("%s %s in %s is %s, note %q, CBT %v, template %v", name, v.Name, v.Parent, v.Runtime.PowerState,
		v.Config.Annotation, v.Config.ChangeTrackingEnabled != nil && *v.Config.ChangeTrackingEnabled, v.Config.Template))
	for _, d := range v.Config.Hardware.Device {
		line := fmt.Sprintf("%s device %d %T", name, d.GetVirtualDevice().Key, d)
		if c := d.GetVirtualDevice().Connectable; c != nil {
			line += fmt.Sprintf(" connects %v", c.StartConnected)
		}
		if disk, ok := d.(*types.VirtualDisk); ok {
			line += fmt.Sprintf(" %v", backingOf(disk.Backing).files)
		}
		lines = append(lines, line)
	}
	for s := range branches(v.Snapshot) {
		lines = append(lines, fmt.Sprintf("%s snapshot %s %q", name, s.Snapshot.Value, s.Name))
	}
	return lines
}

func (r *rig) tags(t *testing.T) (lines []string) {
	t.Helper()
	s := r.connect(t)
	defer s.Close(context.Background())
	h := Hand{Session: s}
	err := h.tagging(context.Background(), func(tm *vapi.Manager) error {
		all, err := tm.GetCategories(context.Background())
		for _, c := range all {
			lines = append(lines, "category "+c.Name)
		}
		if err != nil {
			return err
		}
		list, err := tm.GetTags(context.Background())
		for _, tag := range list {
			objects, err := tm.ListAttachedObjects(context.Background(), tag.ID)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("tag %s on %v", tag.Name, objects))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// same fails the test if the inventory is not as it was.
func (r *rig) same(t *testing.T, before []string, when string) {
	t.Helper()
	now := r.inventory(t)
	slices.Sort(before)
	slices.Sort(now)
	if diff := cmp.Diff(before, now); diff != "" {
		t.Fatalf("%s: the inventory is not as it was (-before +after):\n%s", when, diff)
	}
}
