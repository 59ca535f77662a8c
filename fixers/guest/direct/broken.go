package direct

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

// interrupt has a call that is under way return, and others fail. It may be called at any
// time, by anybody; who calls next ends the engine.
func (g *shown) interrupt(why error) {
	g.cut.Store(&why)
	_ = g.hangUp() // the end says what went wrong, if that was not all
}

// breakDown ends an engine that does not answer, and says why it did not: also if it
// is asked once more.
func (g *shown) breakDown(why error) error {
	switch {
	case g.broken != nil:
		return g.broken
	case g.closed:
		return fs.ErrClosed
	}
	if cause := g.cut.Load(); cause != nil {
		g.limits.end = min(g.limits.end, hurry)
		g.broken = *cause
		if err := g.end(); err != nil {
			g.broken = errors.Join(*cause, err)
		}
		return g.broken
	}
	select {
	case <-g.mounter.Done(): // it ended by itself, and may have said why
	case <-time.After(lastWords):
	}
	if said := g.mounter.Err(); said != nil {
		why = fmt.Errorf("%w: %w", why, said)
	}
	g.broken = errors.Join(fmt.Errorf("%w: %w", ErrBroken, why), g.end())
	return g.broken
}

// lastWords is how long an engine that has hung up may take to end.
const lastWords = 500 * time.Millisecond

// hurry is how long an interrupted engine is waited for: what hangs goes with the storage
// that it hangs on.
const hurry = 5 * time.Second

// end ends both processes and waits until nothing is left of them. An engine that
// has closed the guest has nothing left to lose.
func (g *shown) end() error {
	if g.closed {
		return nil
	}
	g.closed = true
	clear(g.on)
	g.keep()
	return errors.Join(g.hangUp(), g.Window.Close(), endProcess(g.mounter, g.limits.end), letGo(g.disks, g.limits.end))
}

func (g *shown) hangUp() error { return errors.Join(g.calls.Close(), g.Caller.Close()) }

// endProcess ends a process, if it can be ended: not while it waits for a disk that
// does not answer.
func endProcess(s *proc.Server, limit time.Duration) error {
	killed := make(chan error, 1)
	go func() { killed <- s.Kill() }()
	select {
	case err := <-killed:
		return err
	case <-time.After(limit):
		return fmt.Errorf("process %d cannot be ended: the kernel does not let go of it", s.Pid())
	}
}

func filesOf(opened []*os.File) (files []loop.File, err error) {
	for _, f := range opened {
		file, err := loop.FileOf(f)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// letGo waits until no loop device shows any of the disks. To ask for that can take as
// long as a disk takes to answer.
func letGo(disks []loop.File, limit time.Duration) error {
	seen := make(chan error, 1)
	go func() { seen <- awaitDetached(disks, limit) }()
	select {
	case err := <-seen:
		return err
	case <-time.After(limit + time.Second):
		return fmt.Errorf("the disks are still attached after %v, and do not answer", limit)
	}
}

func awaitDetached(disks []loop.File, limit time.Duration) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		left, err := loop.Over(disks)
		if len(left) == 0 || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: still attached after %v", strings.Join(left, ", "), limit)
		}
	}
}
