package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// checkMemory bounds what a checker may take of this host; one that needs more,
// for a file system of many millions of files, is ended, and tells nothing.
const checkMemory = 96 << 20

// Check runs a file system's checker of this host on a loop device.
func (g *engine) Check(ctx context.Context, device string) (guest.Health, error) {
	found, ok := g.filesystem(device)
	if !ok {
		return guest.Health{}, fmt.Errorf("check %s: no such file system: %w", device, fs.ErrNotExist)
	}
	checker, h, ok := guest.CheckerFor(found)
	if !ok {
		return h, nil
	}
	if len(g.mounts.list) > 0 {
		return h, fmt.Errorf("check %s: file systems are mounted", device)
	}
	if !Knows(found.Type) {
		h.Text = fmt.Sprintf("%s is %v", found.Type, ErrUnsupported)
		return h, nil
	}
	mounted := g.Mount(ctx, device, "/")
	if err := g.UnmountAll(); err != nil {
		return h, err
	}
	h, err := g.check(ctx, found, checker, h)
	return h.Mounted(mounted), err
}

func (g *engine) check(ctx context.Context, f guest.Filesystem, c guest.Checker, h guest.Health) (_ guest.Health, err error) {
	l, err := g.attach(f)
	if err != nil {
		return h, fmt.Errorf("check %s: %w", f.Device, err)
	}
	defer func() { err = errors.Join(err, l.Detach()) }()
	limited, cancel := context.WithTimeoutCause(ctx, guest.CheckLimit, errOverdue)
	defer cancel()
	said := &head{}
	checker := confined(l.Node(), false, c.Program, c.Args...)
	checker.Both, checker.Memory = said, checkMemory
	_, err = checker.Run(limited)
	exit := 0
	failure, failed := errors.AsType[*proc.Error](err)
	switch {
	case ctx.Err() != nil:
		return h, context.Cause(ctx)
	case errors.Is(err, errOverdue):
		return h.Overdue(), nil
	case failed:
		exit = failure.Exit
	case err != nil: // it is not installed, or takes too much memory
		h.Text = err.Error()
		return h, nil
	}
	h.State, h.Text = c.Judge(exit, strings.ReplaceAll(string(said.kept), l.Node(), f.Device))
	return h, nil
}

// errOverdue ends a checker that takes too long.
var errOverdue = errors.New("the check took too long")

// head is a writer that keeps the first bytes written to it.
type head struct{ kept []byte }

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), guest.CheckOutput-len(h.kept))]...)
	return len(p), nil
}
