//go:build appliance

package libguestfs

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"hyper2kvm/fixers/guest"
)

// Check runs a file system's checker inside the virtual machine. The library has
// calls of its own for some of them, which repair, or keep back what was said.
// A call cannot be interrupted: the context is looked at before it.
func (g *engine) Check(ctx context.Context, device string) (guest.Health, error) {
	defer pin(g.handle)()
	found, ok := g.filesystem(device)
	if !ok {
		return guest.Health{}, fmt.Errorf("check %s: no such file system: %w", device, fs.ErrNotExist)
	}
	checker, h, ok := guest.CheckerFor(found)
	if !ok {
		return h, nil
	}
	if len(g.mounts) > 0 {
		return h, fmt.Errorf("check %s: file systems are mounted", device)
	}
	if ctx.Err() != nil {
		return h, context.Cause(ctx)
	}
	mounted := g.Mount(device, "/")
	if err := g.UnmountAll(); err != nil {
		return h, err
	}
	h, err := g.check(h, checker)
	return h.Mounted(mounted), err
}

func (g *engine) check(h guest.Health, c guest.Checker) (guest.Health, error) {
	said, err := g.handle.Debug("sh", []string{checkScript(c, g.labelled[h.Device])})
	if err != nil {
		return h, fmt.Errorf("check %s: %w", h.Device, err)
	}
	said, status := cutLastLine(said)
	exit, err := strconv.Atoi(status)
	switch {
	case err != nil:
		return h, fmt.Errorf("check %s: its status is %q", h.Device, status)
	case exit == timedOut:
		return h.Overdue(), nil
	}
	h.State, h.Text = c.Judge(exit, strings.ReplaceAll(said, g.labelled[h.Device], h.Device))
	return h, nil
}

// timedOut is the exit status of timeout(1) when it ended the program.
const timedOut = 124

// checkScript prints the first of what a checker says and, on the last line, its
// exit status. Names of devices are made by us, or checked to be LVM's.
func checkScript(c guest.Checker, device string) string {
	return fmt.Sprintf("{ LC_ALL=C timeout %d %s %s '%s' 2>&1; s=$?; echo; echo $s; } | { head -c %d; tail -n 1; }",
		int(guest.CheckLimit.Seconds()), c.Program, strings.Join(c.Args, " "), device, guest.CheckOutput)
}

// cutLastLine splits off the last line of a text.
func cutLastLine(text string) (rest, last string) {
	text = strings.TrimRight(text, "\n")
	i := strings.LastIndexByte(text, '\n')
	return text[:max(i, 0)], text[i+1:]
}
