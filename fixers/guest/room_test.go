package guest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
)

func TestAChangeSetThatNeedsMoreThanThereIsIsTold(t *testing.T) {
	file := func(size int64) guest.State { return guest.State{Kind: guest.File, Size: size} }
	absent := guest.State{Kind: guest.Absent}
	for _, x := range []struct {
		what    string
		free    int64
		changes []guest.Change
		want    []guest.Shortage
	}{
		{"growth within a block", 1, []guest.Change{{Path: "/a", Before: file(10), After: file(4096)}}, nil},
		{"what fits", 8192, []guest.Change{{Path: "/new/dir/a", Before: absent, After: file(8192)}}, nil},
		{"what does not", 8191, []guest.Change{{Path: "/new/dir/a", Before: absent, After: file(8192)}},
			[]guest.Shortage{{Folder: "/new/dir", Need: 8192, Free: 8191}}},
		{"a file that is written twice", 4096, []guest.Change{
			{Path: "/a", Before: absent, After: file(4096)}, {Path: "/a", Before: file(4096), After: file(100)}}, nil},
		{"another that is removed", 4096, []guest.Change{
			{Path: "/a", Before: file(1 << 20), After: absent}, {Path: "/b", Before: absent, After: file(5000)}},
			[]guest.Shortage{{Folder: "/", Need: 8192, Free: 4096}}},
	} {
		files := tree.New()
		if err := files.WriteFile("/full", 0, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		files.Limit = 100 + x.free
		got, err := guest.Shortages(files, x.changes)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", x.what, diff)
		}
	}
}
