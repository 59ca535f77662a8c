package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/pipeline/vsphere/waystest"
	"hyper2kvm/vmware/transport"
	"hyper2kvm/vmware/vmwaretest"
)

// TestATransportThatCannotBeUsedSaysWhyAndTheNextIsTaken: nothing is set up for any but
// the last.
func TestATransportThatCannotBeUsedSaysWhyAndTheNextIsTaken(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"hotadd", "vddk", "ssh", "https"}
	r := l.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.arrived(t, r)
	for _, c := range r.Carried {
		why := strings.Join(c.Not, "\n")
		for _, want := range []string{"hotadd: cannot be used by hot-add: this program does not run in a VM", "vddk: cannot be used by VDDK: VMware's library is not here",
			"ssh: cannot be used over SSH: no log-in"} {
			if c.By != "https" || !strings.Contains(why, want) {
				t.Errorf("disk %d came by %s, and not because %q", c.Disk, c.By, why)
			}
		}
	}
	if report := l.report(t, r); !strings.Contains(report, "| 0 | https | ") || !strings.Contains(report, "hotadd: cannot be used by hot-add") {
		t.Error("the report does not tell of transports")
	}
}

// TestTransportsAreHeldToTheLimit where they take what the server sends.
func TestTransportsAreHeldToTheLimit(t *testing.T) {
	for _, limits := range [][]transfer.Limit{nil, {{Rate: 1}}} {
		l := newLab(t, nil)
		l.by = []string{"nfc"}
		var held error
		l.Known = []transport.Transport{{Name: "nfc", Open: func(ctx context.Context, a transport.Access, _ transport.Disk) (disk.Remote, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			held = a.Pace(ctx, 16<<20) // more than is let through at first
			return nil, transport.ErrUnusable
		}}}
		r := l.run(t, func(c *Config, _ *pipeline.Options, _ *pipeline.Config) { c.Limits = limits })
		if err := r.Go(t.Context()); !errors.Is(err, transport.ErrUnusable) {
			t.Errorf("Go = %v", err)
		}
		if (held != nil) != (limits != nil) {
			t.Errorf("held to %v: %v", limits, held)
		}
	}
}

// TestTransportsAreToldWhatIsStillToCome: before the first disk is fetched it is known
// whether there is room for all.
func TestTransportsAreToldWhatIsStillToCome(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"nfc"}
	var mu sync.Mutex
	told := map[int32][2]int64{}
	l.Change("nfc", func(open waystest.Opener) waystest.Opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			mu.Lock()
			told[d.Key] = [2]int64{d.Holds, d.Next}
			mu.Unlock()
			return open(ctx, a, d)
		}
	})
	if err := l.run(t).Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := l.vm.Disks[0], l.vm.Disks[1]
	if want := map[int32][2]int64{first.Key: {first.Size, second.Size}, second.Key: {second.Size, 0}}; !maps.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// TestTheDisksOfAVMAreExportedSideBySide: no stream is sent before both were asked for.
func TestTheDisksOfAVMAreExportedSideBySide(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"nfc"}
	var asked atomic.Int32
	both := make(chan struct{})
	l.OnRequest = func(r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/nfc/") {
			return false
		}
		if asked.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
		case <-time.After(time.Minute):
			t.Error("one disk's stream is not asked for while another's is sent")
		}
		return false
	}
	r := l.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.arrived(t, r)
}

// TestOfAnExportTheStreamIsCounted, and not the file that it was kept in.
func TestOfAnExportTheStreamIsCounted(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"nfc"}
	l.fill(t) // with what is easily compressed
	r := l.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.Carried[1].Read; got < 1<<10 || got > 1<<20 {
		t.Errorf("%d bytes came for a disk of 8 MiB that takes some KiB as a stream", got)
	}
}

// report is what people are given.
func (l *lab) report(t *testing.T, r *pipeline.Run) string {
	t.Helper()
	if err := r.WriteReport(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Results() {
		if f.What == "report" {
			return string(read(t, f.Path))
		}
	}
	t.Fatal("there is no report")
	return ""
}

// counted calls something when a transport has brought so many bytes.
type counted struct {
	disk.Remote
	left *atomic.Int64
	then func()
}

func (c counted) Read(ctx context.Context, p []byte, off int64) error {
	if n := int64(len(p)); c.left.Add(-n) < 0 && c.left.Load()+n >= 0 {
		c.then()
	}
	return c.Remote.Read(ctx, p, off)
}

// breaks has a transport break when it has brought so many bytes from CONVERT on.
func (l *lab) breaks(name string, bytes int64, how func()) change {
	var left atomic.Int64
	left.Store(1 << 60)
	l.Change(name, func(open waystest.Opener) waystest.Opener {
		return func(ctx context.Context, a transport.Access, d transport.Disk) (disk.Remote, error) {
			r, err := open(ctx, a, d)
			if err != nil {
				return nil, err
			}
			return counted{r, &left, how}, nil
		}
	})
	return before("convert", func() error { left.Store(bytes); return nil })
}

// fill writes to the data disk what takes some requests to read.
func (l *lab) fill(t *testing.T) {
	t.Helper()
	for at := int64(0); at < 8<<20; at += 1 << 20 {
		l.write(t, 1, at, slices.Repeat([]byte{byte(at>>20) + 1}, 1<<20))
	}
}

// TestATransportThatBreaksInTheMiddleIsReplaced: what was copied stays copied.
func TestATransportThatBreaksInTheMiddleIsReplaced(t *testing.T) {
	for _, c := range []struct {
		from, to, why string
		breaks        func(*testing.T, *lab) func()
	}{
		{"https", "nfc", "answers 403", func(_ *testing.T, l *lab) func() {
			return func() { l.Storm(vmwaretest.Weather{Prefix: "/folder", Status: http.StatusForbidden}) }
		}},
		{"ssh", "https", "refuses the user, the key or the password", func(t *testing.T, l *lab) func() {
			host := l.OverSSH(t)
			return func() { l.SSH.Password = func() string { return "changed" }; host.Cut() }
		}},
		{"vddk", "https", "refused the connection on its port 902", func(t *testing.T, l *lab) func() {
			fails := l.ByVDDK(t)
			return func() { _ = os.WriteFile(fails, nil, 0o600) } // a disk that is read on fails the test
		}},
		{"hotadd", "https", "input/output error", func(t *testing.T, l *lab) func() { return l.ByHotadd(t).Pull }},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			together(t, c.from)
			l := newLab(t, nil)
			broken := c.breaks(t, l)
			l.fill(t)
			l.by = []string{c.from, c.to}
			var back []string
			at := map[int]int64{}
			r := l.run(t, l.breaks(c.from, 3<<20, broken), func(_ *Config, _ *pipeline.Options, p *pipeline.Config) {
				p.Tell = func(e pipeline.Event) {
					if e.Stage == "convert" && e.Progress != nil {
						if e.Progress.Virtual < at[e.Disk] {
							back = append(back, e.Stage)
						}
						at[e.Disk] = e.Progress.Virtual
					}
				}
			})
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.wants(t, off)
			l.arrived(t, r)
			last := r.Carried[len(r.Carried)-1]
			why := strings.Join(last.Not, "\n")
			if last.By != c.to || !strings.HasPrefix(why, c.from+": ") || !strings.Contains(why, c.why) || len(back) > 0 {
				t.Errorf("it came as %+v; the copy went back %d times", last, len(back))
			}
			if most := last.Size * 3 / 2; last.Read > most {
				t.Errorf("%d bytes were asked for, of %d", last.Read, last.Size)
			}
			if report := l.report(t, r); !strings.Contains(report, "| 1 | "+c.to+" | ") || !strings.Contains(report, c.from+": ") {
				t.Error("the report does not tell of it")
			}
		})
	}
}

// TestOneSnapshotIsEnoughForAllDisks, also if they are attached at the same time because
// what read them broke.
func TestOneSnapshotIsEnoughForAllDisks(t *testing.T) {
	l := newLab(t, nil)
	l.ByHotadd(t)
	l.fill(t)
	l.by = []string{"https", "hotadd"}
	r := l.run(t, l.breaks("https", 1<<20, func() { l.Storm(vmwaretest.Weather{Prefix: "/folder", Status: http.StatusForbidden}) }))
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.wants(t, off)
	l.arrived(t, r)
	if n, by := l.Calls()["CreateSnapshot_Task"], carriers(r); n != 1 || !slices.Equal(by, []string{"hotadd"}) {
		t.Errorf("%d snapshots were made, for disks that came by %q", n, by)
	}
}

func TestNoDiskIsOpenedAfterOneThatCannotBe(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"nfc"}
	refused, opens := fmt.Errorf("%w: there is no room", transport.ErrUnusable), 0
	l.Change("nfc", func(waystest.Opener) waystest.Opener {
		return func(context.Context, transport.Access, transport.Disk) (disk.Remote, error) {
			opens++
			return nil, refused
		}
	})
	if err := l.run(t).Go(t.Context()); !errors.Is(err, refused) || opens != 1 {
		t.Errorf("Go = %v, after %d disks were opened", err, opens)
	}
	l.wants(t, on)
}

// TestWhatForbidsTransportsIsOneSentence: none can be used.
func TestWhatForbidsTransportsIsOneSentence(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"vddk", "ssh"}
	err := l.run(t).Go(t.Context())
	if !errors.Is(err, transport.ErrUnusable) || !strings.Contains(err.Error(), "upload VMware-vix-disklib") || !strings.Contains(err.Error(), "give a user, and a key") {
		t.Errorf("Go = %v", err)
	}
	l.wants(t, on)
}
