//go:build appliance

package libguestfs

import (
	"context"
	"errors"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
)

// TestAnInterruptedGuestEnds while it is read again and again: no virtual machine is left.
func TestAnInterruptedGuestEnds(t *testing.T) {
	needVMs(t)
	why := errors.New("the operator has enough")
	ctx, interrupt := context.WithCancelCause(context.Background())
	opened, err := open(ctx, serve(t, guesttest.Disks(t)), Options{TCG: true}, quiet)
	must(t, err)
	g := opened.(*engine)
	must(t, g.Mount("disk0p1", "/"))
	pid, err := g.handle.Get_pid()
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = g.ReadDir("/")
		}
		ended <- err
	}()
	interrupt(why)
	select {
	case err := <-ended:
		t.Log("ReadDir:", err)
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	for name, err := range map[string]error{"Err": g.Err(), "Close": g.Close()} {
		if !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", name, err, why)
		}
	}
	if isChild(pid) {
		t.Error("the virtual machine is there still")
	}
}
