package direct

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/guesttest"
)

var errInterrupted = errors.New("the operator has enough")

// interruptible is a guest of a disk, and what ends it.
func interruptible(t *testing.T, disk string) (*shown, context.CancelCauseFunc) {
	t.Helper()
	ctx, interrupt := context.WithCancelCause(context.Background())
	g, err := Open(ctx, []string{disk}, nil, slog.New(slog.DiscardHandler))
	must(t, err)
	return g.(*shown), interrupt
}

// interrupted is how a call ends whose guest is interrupted while it is under way.
func interrupted(t *testing.T, interrupt context.CancelCauseFunc, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		t.Fatalf("it does not hang: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	interrupt(errInterrupted)
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute): // the limits of calls are longer
		t.Fatal("it goes on")
		return nil
	}
}

func TestAnInterruptedCallReturns(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	mounter := func(_ *testing.T, g *shown) int { return g.mounter.Pid() }
	for name, test := range map[string]struct {
		stop func(*testing.T, *shown) int
		call func(*shown) error
	}{
		"Mount":      {mounter, func(g *shown) error { return g.Mount("disk0", "/mnt") }},
		"UnmountAll": {mounter, (*shown).UnmountAll},
		"Check":      {mounter, func(g *shown) error { _, err := g.Check(context.Background(), "disk0"); return err }},
		"Close":      {mounter, (*shown).Close},
		"ReadDir":    {filesPid, func(g *shown) error { _, err := g.ReadDir("/"); return err }},
		"WriteFile":  {filesPid, func(g *shown) error { return g.WriteFile("/file", 0, nil) }},
		"Digest":     {filesPid, func(g *shown) error { _, _, err := g.Digest("/file", 100); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			disks := []string{made(t, "ext4", 16<<20)}
			g, interrupt := interruptible(t, disks[0])
			must(t, g.Mount("disk0", "/"))
			must(t, g.Mkdir("/mnt", 0o755))
			must(t, g.WriteFile("/file", 0, nil))
			halt(t, test.stop(t, g))
			requireInterrupted(t, g, interrupted(t, interrupt, func() error { return test.call(g) }))
			requireNothingLeft(t, disks)
			requireUsable(t, disks)
		})
	}
}

// requireInterrupted fails the test unless a call's error, and each that comes after it,
// is why the guest was interrupted.
func requireInterrupted(t *testing.T, g *shown, err error) {
	t.Helper()
	_, read := g.ReadFile("/file", 100)
	for name, err := range map[string]error{"the call": err, "Mount": g.Mount("disk0", "/"), "ReadFile": read, "Err": g.Err(), "Close": g.Close()} {
		if !errors.Is(err, errInterrupted) || errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v, want %v", name, err, errInterrupted)
		}
	}
	select {
	case <-g.mounter.Done():
	default:
		t.Error("the mounter still runs")
	}
}

func TestAGuestThatIsInterruptedBetweenCallsLeavesNothing(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := []string{made(t, "ext4", 16<<20)}
	g, interrupt := interruptible(t, disks[0])
	must(t, g.Mount("disk0", "/"))
	interrupt(errInterrupted)
	for g.cut.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	requireInterrupted(t, g, g.Close())
	requireNothingLeft(t, disks)
}

// TestAnInterruptedGuestDoesNotWaitForItsDisk, whatever hangs in the kernel then: it goes
// with the disk's daemon.
func TestAnInterruptedGuestDoesNotWaitForItsDisk(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name, storage, daemon := slowDisk(t)
	g, interrupt := interruptible(t, name)
	must(t, unix.Kill(daemon, unix.SIGSTOP))
	if err := interrupted(t, interrupt, func() error { return g.Mount("disk0", "/") }); !errors.Is(err, errInterrupted) {
		t.Errorf("Mount: error %v, want %v", err, errInterrupted)
	}
	requireGoneWith(t, daemon, g, storage)
}
