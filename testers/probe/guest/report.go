package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"hyper2kvm/testers/probe/wire"
)

// Lists are cut here, so that a report stays far below wire.MaxLine.
const (
	maxItems = 200
	maxText  = 400 // bytes of one line
	maxFile  = 64 << 10
	// maxMountinfo is more than other files need: containers mount hundreds.
	maxMountinfo = 1 << 20
	maxJournal   = "50" // lines
)

// system is where the kernel's files are; tests put them elsewhere.
type system struct{ root string }

// report gathers all that the probe knows. What it cannot find out is said in
// Trouble and otherwise left empty: a partial report is better than none.
func (s system) report() wire.Report {
	r := wire.Report{
		BootID:    s.read("/proc/sys/kernel/random/boot_id"),
		MachineID: s.read("/etc/machine-id"),
		Kernel:    s.read("/proc/sys/kernel/osrelease"),
		Hostname:  s.read("/proc/sys/kernel/hostname"),
		Clock:     time.Now().Unix(),
	}
	trouble := func(err error) {
		if err != nil {
			r.Trouble = append(r.Trouble, cut(err.Error()))
		}
	}
	uptime, _, _ := strings.Cut(s.read("/proc/uptime"), " ")
	r.Uptime, _ = strconv.ParseFloat(uptime, 64)                                // 0 if it cannot be read
	r.Tainted, _ = strconv.ParseInt(s.read("/proc/sys/kernel/tainted"), 10, 64) // likewise
	units(&r, trouble)
	var err error
	r.Root, err = s.rootFS()
	trouble(err)
	r.Mounts, err = s.mounts()
	trouble(err)
	r.Swaps, err = s.swaps()
	trouble(err)
	r.Disks, err = s.disks()
	trouble(err)
	r.NICs, err = s.nics()
	trouble(err)
	for _, g := range s.gateways() {
		g.Reached, err = ping(g)
		trouble(err)
		r.Gateways = append(r.Gateways, g)
	}
	return r
}

// units asks systemd how far it has come.
func units(r *wire.Report, trouble func(error)) {
	// The state is printed whatever the exit status, which says it again.
	state, _ := output("systemctl", "is-system-running")
	r.State = strings.TrimSpace(cut(state))
	shown, err := output("systemctl", "show", "--property=Id,ActiveState", "default.target", "emergency.target", "rescue.target")
	trouble(err)
	r.Target, r.Kind = progress(shown)
	failed, err := output("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager", "--full")
	trouble(err)
	r.Failed = firstWords(failed)
	mounts, err := output("systemctl", "show", "--property=Id,Type", "*.mount")
	trouble(err)
	r.Remote = remotes(mounts)
	if r.Kind == wire.Reached && r.State != "starting" {
		return
	}
	jobs, err := output("systemctl", "list-jobs", "--no-legend", "--no-pager", "--full")
	trouble(err)
	r.Jobs = lines(jobs)
	if r.Kind == wire.Emergency {
		// What happened since pushes the cause out of the last lines of everything.
		journal, err := output("journalctl", "-b", "-p", "warning", "-n", maxJournal, "--no-pager")
		trouble(err)
		r.Journal = lines(journal)
	}
}

// progress reads systemctl's properties of the default, the emergency and the
// rescue target, in blocks in this order.
func progress(shown string) (target string, kind wire.Kind) {
	kind = wire.Starting
	for i, block := range strings.Split(strings.TrimSpace(shown), "\n\n") {
		active := strings.Contains(block, "ActiveState=active")
		switch {
		case i == 0:
			_, rest, _ := strings.Cut(block, "Id=")
			target, _, _ = strings.Cut(rest, "\n")
			if active {
				kind = wire.Reached
			}
		case active:
			kind = wire.Emergency
		}
	}
	return cut(target), kind
}

// firstWords are the units in systemctl's lists; older ones print a bullet.
func firstWords(out string) []string {
	var words []string
	for _, line := range lines(out) {
		if f := strings.Fields(strings.TrimLeft(line, "●* ")); len(f) > 0 {
			words = append(words, f[0])
		}
	}
	return words
}

func lines(out string) []string {
	var kept []string
	for line := range strings.Lines(out) {
		if line = strings.Join(strings.Fields(line), " "); line != "" && len(kept) < maxItems {
			kept = append(kept, cut(line))
		}
	}
	return kept
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// read is a small file's text without the line end; "" if there is none.
func (s system) read(name string) string {
	b, err := s.readAll(name)
	if err != nil {
		return ""
	}
	return cut(strings.TrimSpace(string(b)))
}

func (s system) readAll(name string) ([]byte, error) { return s.readUpTo(name, maxFile) }

func (s system) readUpTo(name string, limit int64) ([]byte, error) {
	f, err := os.Open(s.root + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}
