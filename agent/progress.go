package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

// progress shows a run while it works: one line a stage, and a copy's progress
// redrawn in place on a terminal, every few seconds elsewhere.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	now      func() time.Time
	began    time.Time // of the copy
	from     int64     // bytes of the disks that had been dealt with then
	shown    time.Time
	disks    map[int]transfer.Progress // by their index, as they were last told of
	full     bool                      // the copy was told to be complete
	open     bool                      // a line is drawn that can be redrawn
	together bool                      // how many disks there are is not told
}

func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), now: time.Now, disks: map[int]transfer.Progress{}}
}

// How often a copy is told of: where lines cannot be redrawn, and where they can.
const (
	quiet  = 5 * time.Second
	redraw = 100 * time.Millisecond
)

func (p *progress) tell(e pipeline.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.Progress != nil:
		p.copying(e)
	case e.State == pipeline.Running && e.Text != "":
		clear(p.disks) // another copy begins
		p.line("%-9s%s", strings.ToUpper(e.Stage), e.Text)
	case e.State == pipeline.Done && e.Took == 0:
		p.line("%-9s%s", strings.ToUpper(e.Stage), e.Text)
	case e.State == pipeline.Done:
		p.line("%-9sdone in %s", "", round(e.Took))
	case e.State == pipeline.Skipped:
		p.line("%-9sskipped: %s", strings.ToUpper(e.Stage), e.Text)
	case e.State == pipeline.Failed:
		p.line("%-9sfailed after %s", "", round(e.Took))
	}
}

func (p *progress) line(format string, args ...any) {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
	fmt.Fprintln(p.out, pipeline.Line(fmt.Sprintf(format, args...))) // a guest may have a say in it
}

func (p *progress) copying(e pipeline.Event) {
	now := p.now()
	if len(p.disks) == 0 {
		p.began, p.from = now, 0
	}
	if _, known := p.disks[e.Disk]; !known {
		p.from += e.Progress.Virtual
	}
	p.disks[e.Disk] = *e.Progress
	all := sum(p.disks)
	wait := quiet
	if p.terminal {
		wait = redraw
	}
	last := all.Virtual == all.Total
	if last && p.full || !last && now.Sub(p.shown) < wait {
		return
	}
	p.shown, p.full = now, last
	what := count(len(p.disks))
	if p.together {
		what = "copied"
	}
	text := fmt.Sprintf("%-9s%s  %s", "", what, describe(all, p.from, now.Sub(p.began)))
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		p.open = true
		return
	}
	p.line("%s", text)
}

// sum is how far all disks are together.
func sum(disks map[int]transfer.Progress) (all transfer.Progress) {
	for _, p := range disks {
		all.Virtual, all.Total = all.Virtual+p.Virtual, all.Total+p.Total
		all.Wire, all.Allocated = all.Wire+p.Wire, all.Allocated+p.Allocated
	}
	return all
}

func count(disks int) string {
	if disks == 1 {
		return "1 disk"
	}
	return fmt.Sprintf("%d disks", disks)
}

// describe names what is counted: holes are dealt with at no cost, so the rate
// is that of the bytes that are read. What an earlier run copied, from of the
// disks, costs nothing either.
func describe(t transfer.Progress, from int64, took time.Duration) string {
	share := float64(t.Virtual) / float64(max(t.Total, 1))
	text := fmt.Sprintf("%3.0f%% of %s virtual, %s read, %s written", 100*share, size(t.Total), size(t.Wire), size(t.Allocated))
	if seconds := took.Seconds(); seconds >= 1 {
		text += fmt.Sprintf(", %s/s", size(int64(float64(t.Wire)/seconds)))
		if gone := float64(t.Virtual-from) / float64(max(t.Total, 1)); gone > 0.01 && share < 1 {
			text += fmt.Sprintf(", about %s left", round(time.Duration(float64(took)*(1-share)/gone)))
		}
	}
	return text
}

// size is a number of bytes for people, in binary units.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/(1<<10), unit+1
	}
	return fmt.Sprintf("%.3g %ciB", value, units[unit])
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second / 10)
}
