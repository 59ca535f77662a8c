//go:build appliance

package libguestfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
)

// TestAnInterruptedGuestEnds while it is read again and again: no virtual machine is left.
func TestAnInterruptedGuestEnds(t *testing.T) {
	needVMs(t)
	why := errors.New("the operator has enough")
	ctx, interrupt := context.WithCancelCause(context.Background())
	exports := serve(t, guesttest.Disks(t))
	g, err := Open(ctx, exports, Options{TCG: true}, quiet)
	must(t, err)
	must(t, g.Mount("disk0p1", "/"))
	before, err := g.ReadDir("/")
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		err := fs.ErrNotExist
		for i := 0; errors.Is(err, fs.ErrNotExist); i++ { // each of them is asked for
			_, err = g.Lstat(fmt.Sprintf("/%d", i))
		}
		ended <- err
	}()
	interrupt(why)
	select {
	case err := <-ended:
		t.Log("Lstat:", err)
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if after, err := g.ReadDir("/"); err != nil || len(after) != len(before) {
		t.Errorf("what was read is not remembered: %d of %d names, %v", len(after), len(before), err)
	}
	for name, err := range map[string]error{"Err": g.Err(), "Close": g.Close()} {
		if !errors.Is(err, why) {
			t.Errorf("%s: %v, want %v", name, err, why)
		}
	}
	requireNoQEMU(t, exports[0].Socket)
}
