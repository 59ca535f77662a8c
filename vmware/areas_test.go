package vmware

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/vmware/vmwaretest"
)

// written is what areas tell of a whole disk, as pairs of start and end.
func written(t *testing.T, a *Areas, size int64) (pairs [][2]int64) {
	t.Helper()
	for off := int64(0); off < size; {
		list, err := a.Extents(context.Background(), off, size-off)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Offset != off || e.Length <= 0 {
				t.Fatalf("at %d: %+v leaves a gap", off, list)
			}
			if off += e.Length; e.Zero {
				continue
			}
			if n := len(pairs); n > 0 && pairs[n-1][1] == e.Offset {
				pairs[n-1][1] = off
				continue
			}
			pairs = append(pairs, [2]int64{e.Offset, off})
		}
	}
	return pairs
}

func TestAllocatedAndChangedAreasAreTold(t *testing.T) {
	for _, most := range []int{0, 1} { // in one answer, and in as many as there are areas
		r := newRig(t, vmwaretest.Options{MaxExtents: most})
		ctx := context.Background()
		const size, block = 64 << 20, 64 << 10
		v := r.AddVM(t, vmwaretest.VM{Name: "db", CBT: true, Disks: []vmwaretest.Disk{{Size: size}}})
		h := r.hand(t, new(pages))
		key := v.Disks[0].Key
		if err := h.powerOn(ctx, v.Ref); err != nil {
			t.Fatal(err)
		}
		write := func(offs ...int64) {
			for _, off := range offs {
				r.GuestWrite(t, v.Ref, key, off, []byte("data"))
			}
		}
		write(0, 10<<20, 40<<20)
		first, err := h.Snapshot(ctx, v.Ref.Value, SnapshotPolicy{Label: "first", Spare: 1})
		if err != nil {
			t.Fatal(err)
		}
		b, err := h.Session.diskOf(ctx, v.Ref.Value, first.Snapshot, key)
		if err != nil || b.changeID == "" {
			t.Fatalf("change ID %q, %v", b.changeID, err)
		}
		write(20<<20, 20<<20+3*block, 20<<20+9*block, 63<<20)
		second, err := h.Snapshot(ctx, v.Ref.Value, SnapshotPolicy{Label: "second", Spare: 1})
		if err != nil {
			t.Fatal(err)
		}
		at := func(offs ...int64) (pairs [][2]int64) {
			for _, off := range offs {
				pairs = append(pairs, [2]int64{off, off + block})
			}
			return pairs
		}
		for what, c := range map[string]struct {
			areas *Areas
			want  [][2]int64
		}{
			"allocated in the first":  {h.Session.Allocated(v.Ref.Value, first.Snapshot, key, size), at(0, 10<<20, 40<<20)},
			"allocated in the second": {h.Session.Allocated(v.Ref.Value, second.Snapshot, key, size), at(0, 10<<20, 20<<20, 20<<20+3*block, 20<<20+9*block, 40<<20, 63<<20)},
			"changed since the first": {h.Session.Changed(v.Ref.Value, second.Snapshot, key, size, b.changeID), at(20<<20, 20<<20+3*block, 20<<20+9*block, 63<<20)},
		} {
			if diff := cmp.Diff(c.want, written(t, c.areas, size)); diff != "" {
				t.Errorf("%s, %d at a time (-want +got):\n%s", what, most, diff)
			}
		}
		r.ResetCBT(v.Ref)
		_, err = h.Session.Changed(v.Ref.Value, second.Snapshot, key, size, b.changeID).Extents(ctx, 0, size)
		if !errors.Is(err, ErrCBTReset) {
			t.Errorf("after a reset: %v, want %v", err, ErrCBTReset)
		}
		if _, err := h.Session.Allocated(v.Ref.Value, second.Snapshot, key, size).Extents(ctx, size, 1); err == nil {
			t.Error("areas beyond the disk are told")
		}
	}
}

func TestAnswersAboutAreasAreNotTrusted(t *testing.T) {
	const mb = 1 << 20
	a := &Areas{vm: "vm-1", key: 2000, size: 10 * mb}
	extent := func(start, length int64) types.DiskChangeExtent {
		return types.DiskChangeExtent{Start: start, Length: length}
	}
	for name, info := range map[string]types.DiskChangeInfo{
		"no progress":      {StartOffset: mb},
		"backwards":        {StartOffset: mb, Length: -1},
		"elsewhere":        {StartOffset: 2 * mb, Length: mb},
		"overflow":         {StartOffset: mb, Length: 1<<63 - 1},
		"too many extents": {StartOffset: mb, Length: mb, ChangedArea: make([]types.DiskChangeExtent, mostAreas+1)},
	} {
		if told, err := a.trusted(mb, info); err == nil || !strings.Contains(err.Error(), "read the disk whole") {
			t.Errorf("%s: %+v, %v", name, told, err)
		}
	}
	told, err := a.trusted(0, types.DiskChangeInfo{Length: 20 * mb, ChangedArea: []types.DiskChangeExtent{
		extent(8*mb, 5*mb), extent(-mb, 3*mb), extent(2*mb, mb), extent(3*mb, mb), extent(2*mb, mb), extent(mb, 0), extent(5, 1<<63-1), extent(30*mb, mb)}})
	want := []disk.Allocation{{Offset: 0, Length: 2 * mb, Zero: true}, {Offset: 2 * mb, Length: 2 * mb}, {Offset: 4 * mb, Length: 4 * mb, Zero: true},
		{Offset: 8 * mb, Length: 2 * mb}}
	if diff := cmp.Diff(want, told.within(0, told.end)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
