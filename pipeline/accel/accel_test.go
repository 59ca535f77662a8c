package accel

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestAGuestThatDoesNotAnswerIsNoKVM(t *testing.T) {
	for _, c := range []struct {
		name     string
		answered bool
		err      error
		want     string
		reason   string
	}{
		{"answers and ends", true, nil, KVM, "booted a kernel"},
		{"hangs", false, errors.New("no answer within 15s"), TCG, "KVM present but does not run guests"},
		{"dies", false, nil, TCG, "without its answer"},
		{"answers and hangs", true, errors.New("no answer within 15s"), TCG, "to their end"},
	} {
		got := judge(KVM, c.answered, c.err)
		if got.Name != c.want || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: judge = %+v, want %s because %q", c.name, got, c.want, c.reason)
		}
	}
}

func TestTheProbesGuestAnswersUnderEmulation(t *testing.T) {
	needVMs(t)
	got, err := tryGuest(t.Context(), TCG, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Reason, "booted a kernel") {
		t.Errorf("the probe's guest did not answer under emulation: %+v", got)
	}
}

// A deadline that no guest can meet stands for a KVM that hangs.
func TestAHangingGuestIsEndedAtTheDeadline(t *testing.T) {
	needVMs(t)
	start := time.Now()
	got, err := tryGuest(t.Context(), TCG, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Reason, "does not run guests: qemu-system-x86_64: no answer within 300ms") {
		t.Errorf("tryGuest = %+v", got)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("the guest lived on for %v", took)
	}
}

func TestACancelledProbeIsNotAChoice(t *testing.T) {
	needVMs(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator left")
	cancel(reason)
	if _, err := tryGuest(ctx, TCG, time.Minute); !errors.Is(err, reason) {
		t.Errorf("tryGuest after cancel: %v, want %v", err, reason)
	}
}

func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts a virtual machine: set NEED_VMS=1")
	}
}
