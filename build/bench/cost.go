package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Cost is what a run took.
type Cost struct {
	Wall   time.Duration
	CPU    time.Duration // of all processes, user and system
	Phases []Phase
	// Ours is the largest sum of the anonymous memory of all processes at one
	// time, bytes; virtual machines apart, whose memory is the guest's or the
	// appliance's and is in Machines. It is sampled. Page cache is not counted:
	// the kernel gives it back.
	Ours     int64
	Machines int64
	Programs map[string]int64 // the largest sum of each program's processes
}

// Phase is a part of a run.
type Phase struct {
	Name      string
	Wall, CPU time.Duration
}

// print shows a cost as a table.
func (c Cost) print(w io.Writer, title string) {
	fmt.Fprintf(w, "%s\n\n| phase | wall | CPU |\n|---|---:|---:|\n", title)
	for _, p := range c.Phases {
		name, _, _ := strings.Cut(p.Name, ": ") // what follows are this machine's paths
		fmt.Fprintf(w, "| %.60s | %s | %s |\n", name, tenths(p.Wall), tenths(p.CPU))
	}
	fmt.Fprintf(w, "| **total** | **%s** | **%s** |\n\n", tenths(c.Wall), tenths(c.CPU))
	fmt.Fprintf(w, "Anonymous memory at most: %d MiB (%s); virtual machines apart: %d MiB.\n\n", c.Ours>>20, c.programs(), c.Machines>>20)
}

func tenths(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// programs are the largest users of memory.
func (c Cost) programs() string {
	names := slices.SortedFunc(maps.Keys(c.Programs), func(a, b string) int { return cmp.Compare(c.Programs[b], c.Programs[a]) })
	var parts []string
	for _, n := range names[:min(len(names), 4)] {
		parts = append(parts, fmt.Sprintf("%s %d", n, c.Programs[n]>>20))
	}
	return strings.Join(parts, ", ")
}

// against prints how much less a run took than another, and is an error where
// that is less than it must be.
func (c Cost) against(w io.Writer, who string, other Cost, least float64) error {
	wall, cpu := ratio(other.Wall, c.Wall), ratio(other.CPU, c.CPU)
	fmt.Fprintf(w, "virt-v2v takes %.0f times the wall time and %.0f times the CPU time.\n\n", wall, cpu)
	if wall < least || cpu < least {
		return fmt.Errorf("%w: %s: virt-v2v takes %.1f times the wall time and %.1f times the CPU time, want at least %.0f", errLost, who, wall, cpu, least)
	}
	return nil
}

// errLost is a figure that is not what it must be.
var errLost = errors.New("a bar is lost")

// modest is an error where our processes need too much memory.
func (c Cost) modest(who string) error {
	if c.Ours > most {
		return fmt.Errorf("%w: %s: %d MiB of memory at most, want no more than %d", errLost, who, c.Ours>>20, int64(most)>>20)
	}
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, time.Millisecond)) }

// mark is the moment at which a phase begins.
type mark struct {
	Name string
	At   time.Duration // since the run began
}

// phases divides a run's CPU time among its phases. Between two samples CPU time
// is taken to grow evenly.
func phases(marks []mark, wall time.Duration, samples []reading) []Phase {
	var all []Phase
	for i, m := range marks {
		end := wall
		if i+1 < len(marks) {
			end = marks[i+1].At
		}
		all = append(all, Phase{Name: m.Name, Wall: end - m.At, CPU: cpuAt(samples, end) - cpuAt(samples, m.At)})
	}
	return all
}

// cpuAt is the CPU time used until a moment.
func cpuAt(samples []reading, at time.Duration) time.Duration {
	before := reading{}
	for _, s := range samples {
		if s.At >= at {
			if s.At == before.At {
				return s.CPU
			}
			share := float64(at-before.At) / float64(s.At-before.At)
			return before.CPU + time.Duration(share*float64(s.CPU-before.CPU))
		}
		before = s
	}
	return before.CPU
}
