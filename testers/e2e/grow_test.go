package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"hyper2kvm/pipeline"
	"hyper2kvm/testers"
)

// growing are guests whose first disk becomes larger on its way, and what grows on it
// that holds the root: for db01 a logical volume with others behind it.
var growing = []struct {
	trial
	by       int64 // bytes
	root     string
	from, to int64 // MiB
}{
	{trial{guest: "db01"}, 2 << 30, "db01-vg/root", 2800, 2800 + 2128},
}

func TestAGuestWhoseDiskGrowsIsProved(t *testing.T) {
	for _, x := range growing {
		t.Run(x.guest, func(t *testing.T) {
			x.needed(t)
			g := x.build(t)
			before := digests(t, g.VMDKs)
			r, err := run(t, filepath.Join(t.TempDir(), g.Name), pipeline.Options{Source: g.VMX, Grow: []pipeline.Growth{{Size: x.by, More: true}}})
			t.Logf("engine %s: %s", r.Engine.Name, r.Engine.Reason)
			if err != nil {
				t.Fatal(err)
			}
			x.check(t, r, g)
			if len(r.Plan.Resizes) != 1 || len(r.Again.Resizes) > 0 {
				t.Fatalf("planned: %+v, and again %+v", r.Plan.Resizes, r.Again.Resizes)
			}
			if f := r.Plan.Resizes[0].Filesystem; f == nil || f.Device != x.root || f.From != x.from<<20 || f.To != x.to<<20 {
				t.Errorf("what grows is %+v", f)
			}
			if seen := rootSeen(t, r.Outcome.Answers); seen < x.to*9/10 || seen > x.to {
				t.Errorf("the guest sees a root of %d MiB, want about %d", seen, x.to)
			}
			if after := digests(t, g.VMDKs); !slices.Equal(before, after) {
				t.Error("the source was written")
			}
		})
	}
}

var rootSize = regexp.MustCompile(` with (\d+) MiB, on `)

// rootSeen is how large the guest itself sees its root, MiB.
func rootSeen(t *testing.T, answers []testers.Answer) int64 {
	t.Helper()
	i := slices.IndexFunc(answers, func(a testers.Answer) bool { return a.Name == "root-on-expected-disk" })
	if i < 0 {
		t.Fatal(fmt.Errorf("the guest was not asked for its root: %+v", answers))
	}
	found := rootSize.FindStringSubmatch(answers[i].Evidence)
	if found == nil {
		t.Fatalf("it does not tell its size: %s", answers[i].Evidence)
	}
	n, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
