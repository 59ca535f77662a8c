package proc

import "testing"

func TestAnonymousMemoryCountsWhatIsSwappedOut(t *testing.T) {
	got := anonymous("Name:\tx\nVmRSS:\t  500 kB\nRssAnon:\t  300 kB\nRssFile:\t  200 kB\nVmSwap:\t   4 kB\n")
	if want := int64(304 << 10); got != want {
		t.Errorf("anonymous = %d, want %d", got, want)
	}
}
