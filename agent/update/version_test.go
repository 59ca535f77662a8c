package update

import "testing"

// TestVersionsAreOrderedAsSystemdDoes by examples of the specification, and ours.
func TestVersionsAreOrderedAsSystemdDoes(t *testing.T) {
	for _, list := range [][]string{
		{"122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1", "124-1"},
		{"0.0-609-g95953da", "0.0-609-g95953da.1", "0.0-1000-g0000000", "0.1", "0.1-2-gabc", "0.1-10-gabc", "0.2"},
		{"1.2", "1.02.1", "1.10"},
	} {
		for i := range list {
			for j := range list {
				want := map[bool]int{i < j: -1, i > j: 1}[true]
				if got := Compare(list[i], list[j]); got != want {
					t.Errorf("Compare(%q, %q) = %d, want %d", list[i], list[j], got, want)
				}
			}
		}
	}
	if Compare("1.0", "1.00") != 0 {
		t.Error("zeros before a number count")
	}
}
