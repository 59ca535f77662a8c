package pipeline

import (
	"strings"
	"testing"
)

func TestAMachineGetsWhatTheHostCanGive(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ want, available, share int64 }{
		{2 * gib, 24 * gib, 0},
		{64 * gib, 8 * gib, 8*gib - spare},
		{2 * gib, gib / 2, 256 << 20},
		{4 * gib, 4*gib + spare, 0},
	} {
		if got := share(c.want, c.available); got != c.share {
			t.Errorf("share(%d, %d) = %d, want %d", c.want, c.available, got, c.share)
		}
	}
}

func TestMemAvailableIsRead(t *testing.T) {
	got, err := memAvailable(strings.NewReader("MemTotal:       24625876 kB\nMemAvailable:   20480000 kB\n"))
	if err != nil || got != 20480000<<10 {
		t.Errorf("memAvailable = %d, %v", got, err)
	}
	if got, err := memAvailable(strings.NewReader("MemTotal: 1 kB\n")); err == nil {
		t.Errorf("memAvailable of a file without it = %d", got)
	}
}
