package update

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// firmwares are the ways in which the machine finds out what to start.
func (b *bench) firmwares() map[string]func() (string, error) {
	return map[string]func() (string, error){"UEFI": b.byUEFI, "BIOS": b.byGRUB}
}

func (b *bench) start(want string) {
	b.t.Helper()
	for name, firmware := range b.firmwares() {
		if got, err := firmware(); got != want || err != nil {
			b.t.Errorf("by %s it starts %s, %v; want %s", name, got, err, want)
		}
	}
}

func (b *bench) looks() Status {
	b.t.Helper()
	s, err := b.Look(b.t.Context())
	must(b.t, err)
	return s
}

func TestAnUpdateIsStartedAndIsConfirmed(t *testing.T) {
	ours, _ := keys()
	b := newBench(t)
	b.start(oldVersion)
	must(t, b.install(packed(t, newVersion, ours)))
	if s := b.looks(); s.Running != oldVersion || s.Other != newVersion || s.State != OnTrial || s.Started != 0 {
		t.Errorf("%+v", s)
	}
	b.start(newVersion)
	b.runs(newVersion)
	if s := b.looks(); !s.Trial || s.Other != oldVersion || s.State != Confirmed {
		t.Errorf("%+v", s)
	}
	must(t, b.Confirm(t.Context()))
	must(t, b.Confirm(t.Context())) // a second time is no mistake
	if s := b.looks(); s.Trial {
		t.Errorf("%+v", s)
	}
	for range 2 * tries {
		b.start(newVersion)
	}
	const third = "0.0-9-gccccccc"
	b.Root = "254:0"
	must(t, b.install(packed(t, third, ours)))
	b.start(third)
}

func TestAVersionThatIsNotHealthyIsGivenUp(t *testing.T) {
	ours, _ := keys()
	for _, uefi := range []bool{true, false} {
		b := newBench(t)
		b.real = uefi
		b.runs(oldVersion)
		must(t, b.install(packed(t, newVersion, ours)))
		firmware := b.firmwares()[map[bool]string{true: "UEFI", false: "BIOS"}[uefi]]
		for n := range tries + 2 {
			want := newVersion
			if n >= tries {
				want = oldVersion
			}
			if got, err := firmware(); got != want || err != nil {
				t.Errorf("start %d is of %s, %v", n, got, err)
			}
		}
		s := b.looks()
		if s.State != Failed || s.Started != tries || !strings.Contains(s.Sentence(), "started 3 times and was not healthy; "+oldVersion+" runs") {
			t.Errorf("%+v: %s", s, s.Sentence())
		}
		must(t, b.install(packed(t, newVersion, ours))) // it may be given once more
		if got, err := firmware(); got != newVersion || err != nil {
			t.Errorf("given once more, it starts %s, %v", got, err)
		}
	}
}

// TestACopyStartsWhatRunsAndNothingElse: an appliance that is made of this one has no root
// of another version.
func TestACopyStartsWhatRunsAndNothingElse(t *testing.T) {
	ours, _ := keys()
	b := newBench(t)
	must(t, b.install(packed(t, newVersion, ours)))
	copied := false
	must(t, b.Copied(t.Context(), "copy", func() error {
		copied = true
		b.start(newVersion)
		return nil
	}))
	b.start(oldVersion)
	if s := b.looks(); !copied || s.Trial || s.Other != "" {
		t.Errorf("copied: %v, %+v", copied, s)
	}
}

var errCut = errors.New("the power is gone")

// TestPowerMayGoAtAnyMoment: after each thing that is written, by each firmware, a version
// starts that is whole; and the update can be given again, and then starts.
func TestPowerMayGoAtAnyMoment(t *testing.T) {
	ours, _ := keys()
	archive := packed(t, newVersion, ours)
	var steps []string
	begin := func(cut int) (*bench, error) {
		b, n := newBench(t), 0
		b.failedBefore()
		b.step = func(name string) error {
			if cut < 0 {
				steps = append(steps, name)
			}
			if n++; n-1 == cut {
				return errCut
			}
			return nil
		}
		return b, b.install(archive)
	}
	if _, err := begin(-1); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 25 {
		t.Fatalf("there are %d steps: %q", len(steps), steps)
	}
	for cut, name := range steps {
		b, err := begin(cut)
		if !errors.Is(err, errCut) {
			t.Fatalf("cut after %q: %v", name, err)
		}
		b.step = nil
		for _, firmware := range b.firmwares() {
			if got, err := firmware(); err != nil || got == failedVersion {
				t.Errorf("cut after %q, it starts %s, %v", name, got, err)
			}
		}
		must(t, b.install(archive))
		b.start(newVersion)
	}
}

// TestAnArchiveMayEndAnywhere as when a download breaks off.
func TestAnArchiveMayEndAnywhere(t *testing.T) {
	ours, _ := keys()
	archive := packed(t, newVersion, ours)
	b := newBench(t)
	for n := 0; n < len(archive)-1536; n += len(archive)/60 + 1 { // where the last member ends, all is there
		if err := b.install(archive[:n]); !errors.Is(err, ErrArchive) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		b.start(oldVersion)
	}
	gone := errors.New("the network is gone")
	_, err := b.Install(t.Context(), io.MultiReader(bytes.NewReader(archive[:len(archive)*9/10]), failing{gone}), func(int64) {})
	if !errors.Is(err, gone) || errors.Is(err, ErrArchive) {
		t.Errorf("a source that fails: %v", err)
	}
	must(t, b.install(archive))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

const failedVersion = "0.0-8-gfailed0"

// failedBefore has the machine begin with a version in its spare slot that was tried in vain.
func (b *bench) failedBefore() {
	i := image{failedVersion, true, 0, tries}
	b.put("esp/"+i.name(), uki(failedVersion))
	root, verity := contents(failedVersion)
	b.put("dev/vda5", root)
	b.put("dev/vda6", verity)
	h := home{disk: filepath.Join(b.dir, "dev/vda")}
	table, err := readTable(b.t.Context(), h.disk)
	must(b.t, err)
	s := slot{table[4], table[5]}
	failed := &archive{}
	failed.root, failed.verity = Halves(rootHash(failedVersion))
	must(b.t, b.name(b.t.Context(), h, s.of(failed)))
	must(b.t, Menu(b.esp.folder))
}

func TestWhatCannotBeUpdatedSaysWhy(t *testing.T) {
	ours, _ := keys()
	archive := packed(t, newVersion, ours)
	for why, c := range map[string]struct {
		change func(b *bench)
		err    error
	}{
		"built without a key":              {func(b *bench) { must(t, os.Remove(b.Trust)) }, ErrCannot},
		"runs in memory":                   {func(b *bench) { b.put("proc/cmdline", []byte("quiet hyper2kvm.toram")) }, ErrCannot},
		"is write-protected":               {func(b *bench) { b.put("sys/devices/vda/ro", []byte("1\n")) }, ErrCannot},
		"has no room for a second version": {func(b *bench) { b.delete("5", "6") }, ErrCannot},
		"does not run from an image":       {func(b *bench) { must(t, os.RemoveAll(filepath.Join(b.dir, "sys/dev"))) }, ErrCannot},
		"has not been found healthy yet": {func(b *bench) {
			must(t, b.esp.move(image{version: oldVersion}.name(), image{oldVersion, true, 2, 1}.name()))
		}, ErrCannot},
		newVersion + " runs already":          {func(b *bench) { b.put("os-release", []byte("IMAGE_VERSION="+newVersion)) }, ErrVersion},
		"it is 0.0-8-gbbbbbbb, and 0.1 runs":  {func(b *bench) { b.put("os-release", []byte("IMAGE_VERSION=0.1")) }, ErrVersion},
		"another update is being installed, ": {func(b *bench) { b.other(t) }, ErrBusy},
	} {
		b := newBench(t)
		c.change(b)
		if err := b.install(archive); !errors.Is(err, c.err) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v; want %q", err, why)
		}
	}
}

// delete removes partitions from the disk.
func (b *bench) delete(numbers ...string) {
	b.t.Helper()
	for _, n := range slices.Backward(numbers) {
		_, err := sfdisk(b.t, "--quiet", "--delete", filepath.Join(b.dir, "dev/vda"), n)
		must(b.t, err)
	}
}

// other is another program that updates the machine.
func (b *bench) other(t *testing.T) {
	release := b.looking(t)
	t.Cleanup(func() { must(t, release()) })
}

func (b *bench) looking(t *testing.T) (release func() error) {
	t.Helper()
	release, err := (&Machine{Run: b.Run}).alone(t.Context(), 0)
	must(t, err)
	return release
}

// TestWhoOnlyLooksIsWaitedFor: how an update goes is asked for again and again.
func TestWhoOnlyLooksIsWaitedFor(t *testing.T) {
	ours, _ := keys()
	b := newBench(t)
	b.turn = time.Minute
	release := b.looking(t)
	done := make(chan error, 1)
	go func() { done <- b.install(packed(t, newVersion, ours)) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	must(t, release())
	must(t, <-done)
}

// TestADiskThatForgetsIsTold: what was written to a slot is another thing when all of it is
// there. The version that runs is what starts then.
func TestADiskThatForgetsIsTold(t *testing.T) {
	ours, _ := keys()
	b, forgot := newBench(t), 0
	_, err := b.Install(t.Context(), bytes.NewReader(packed(t, newVersion, ours)), func(int64) {
		slot := filepath.Join(b.dir, "dev/vda5")
		if info, err := os.Stat(slot); err != nil || info.Size() == 0 {
			return
		}
		f, err := os.OpenFile(slot, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("x"), 0)
		must(t, errors.Join(err, f.Close()))
		forgot++
	})
	if err == nil || !strings.Contains(err.Error(), "the disk is failing") || forgot == 0 {
		t.Errorf("it forgot %d times: %v", forgot, err)
	}
	b.start(oldVersion)
}

// TestWhatIsWrittenIsReadBack: a disk that does not keep what it is given is told of.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	node := filepath.Join(t.TempDir(), "vda5")
	must(t, os.WriteFile(node, []byte("what the disk made of it"), 0o600))
	f, err := os.Open(node)
	must(t, err)
	defer f.Close()
	p := partition{Node: node}
	sum := sha256.Sum256([]byte("what was written to it  "))
	if err := p.compare(f, 24, sum[:]); err == nil || !strings.Contains(err.Error(), "the disk is failing") {
		t.Errorf("%v", err)
	}
	sum = sha256.Sum256([]byte("what the disk made of it"))
	must(t, p.compare(f, 24, sum[:]))
}
