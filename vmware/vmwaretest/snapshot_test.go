package vmwaretest_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

func TestASnapshotFreezesTheDiskAndItsRemovalMergesWhatTheGuestWrote(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	key := v.Disks[0].Key
	ref := snapshot(t, c, v.Ref, "one")
	s.GuestWrite(t, v.Ref, key, 4096, []byte("after"))

	live, frozen := diskIn(t, c, v.Ref, key), diskIn(t, c, ref, key)
	if live.FileName != "[datastore1] web01/web01-000001.vmdk" || live.Parent == nil || live.Parent.FileName != v.Disks[0].Path || frozen.FileName != v.Disks[0].Path {
		t.Errorf("live on %s, its parent %+v, frozen %s", live.FileName, live.Parent, frozen.FileName)
	}
	if string(download(t, s, c, v.Disks[0].Path, "")) != string(content) {
		t.Error("the frozen base changed")
	}
	remove(t, c, ref, false)
	copy(content[4096:], "after")
	if now := diskIn(t, c, v.Ref, key); now.FileName != v.Disks[0].Path || now.Parent != nil {
		t.Errorf("after the removal on %s, its parent %+v", now.FileName, now.Parent)
	}
	sameBytes(t, "the merged base", s.RawOf(t, v.Disks[0].Path), content)
	if files := filesOf(t, s, v); slices.Contains(files, "web01-000001.vmdk") || slices.Contains(files, "web01-000001-delta.vmdk") {
		t.Errorf("the delta is still there: %v", files)
	}
}

// remove removes a snapshot over the wire.
func remove(t *testing.T, c *govmomi.Client, ref types.ManagedObjectReference, children bool) {
	t.Helper()
	response, err := methods.RemoveSnapshot_Task(context.Background(), c, &types.RemoveSnapshot_Task{This: ref, RemoveChildren: children})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, object.NewTask(c.Client, response.Returnval), nil)
}

func filesOf(t *testing.T, s *vmwaretest.Server, v vmwaretest.VM) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.RawOf(t, v.Disks[0].Path)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The sequences are those with which the simulator loses files.
func TestNoOrderOfSnapshotsLosesFilesOrBytes(t *testing.T) {
	for name, order := range map[string][]int{
		"newest first": {2, 1, 0}, "oldest first": {0, 1, 2}, "the middle one first": {1, 0, 2}, "from the outside": {0, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := started(t, vmwaretest.Options{})
			raw, content := rawDisk(t, 1<<20)
			v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
			before := filesOf(t, s, v)
			var refs []types.ManagedObjectReference
			for i := range 3 {
				refs = append(refs, snapshot(t, c, v.Ref, string(rune('a'+i))))
				s.GuestWrite(t, v.Ref, v.Disks[0].Key, int64(i)*4096, []byte{byte(i + 1)})
				content[i*4096] = byte(i + 1)
			}
			for _, i := range order {
				remove(t, c, refs[i], false)
				sameBytes(t, "the disk", s.Raw(t, v.Ref, v.Disks[0].Key), content)
			}
			if after := filesOf(t, s, v); !slices.Equal(after, before) {
				t.Errorf("the files are %v, were %v", after, before)
			}
			var m mo.VirtualMachine
			properties(t, c, v.Ref, &m, "snapshot", "rootSnapshot")
			if m.Snapshot != nil || len(m.RootSnapshot) != 0 {
				t.Errorf("the tree is %+v", m.Snapshot)
			}
		})
	}
}

func TestRemovingAllSnapshotsOrOneWithItsChildrenMerges(t *testing.T) {
	for name, remove := range map[string]func(*testing.T, *govmomi.Client, types.ManagedObjectReference, types.ManagedObjectReference){
		"all": func(t *testing.T, c *govmomi.Client, vm, _ types.ManagedObjectReference) {
			task, err := object.NewVirtualMachine(c.Client, vm).RemoveAllSnapshot(context.Background(), nil)
			wait(t, task, err)
		},
		"with children": func(t *testing.T, c *govmomi.Client, _, first types.ManagedObjectReference) {
			remove(t, c, first, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := started(t, vmwaretest.Options{})
			raw, content := rawDisk(t, 1<<20)
			v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
			before := filesOf(t, s, v)
			first := snapshot(t, c, v.Ref, "a")
			s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("x"))
			snapshot(t, c, v.Ref, "b")
			copy(content, "x")
			remove(t, c, v.Ref, first)
			sameBytes(t, "the disk", s.RawOf(t, v.Disks[0].Path), content)
			if after := filesOf(t, s, v); !slices.Equal(after, before) {
				t.Errorf("the files are %v, were %v", after, before)
			}
		})
	}
}

func TestRevertingGivesTheDiskAsItWas(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	ref := snapshot(t, c, v.Ref, "a")
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("lost"))
	task, err := object.NewVirtualMachine(c.Client, v.Ref).RevertToSnapshot(context.Background(), "a", true)
	wait(t, task, err)
	sameBytes(t, "the disk", s.Raw(t, v.Ref, v.Disks[0].Key), content)
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("kept"))
	sameBytes(t, "the frozen base", s.RawOf(t, v.Disks[0].Path), content)
	copy(content, "kept")
	remove(t, c, ref, false)
	sameBytes(t, "the merged disk", s.RawOf(t, v.Disks[0].Path), content)
}
