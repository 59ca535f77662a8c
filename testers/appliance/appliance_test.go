package appliance

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// image is the appliance's raw disk. make test-appliance builds it and says where it is.
func image(t *testing.T) string {
	t.Helper()
	path := os.Getenv("APPLIANCE")
	if path == "" {
		t.Skip("APPLIANCE names no image: run make test-appliance")
	}
	return path
}

// patience is for an emulator beside another one on two CPUs.
const patience = 8 * time.Minute

func started(t *testing.T, s Spec) (*Machine, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	if s.Home == "" {
		s.Home = t.TempDir()
	}
	if s.Image == "" {
		s.Image = image(t)
	}
	m, err := Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Pull(); err != nil {
			t.Log(err)
		}
	})
	return m, ctx
}

// TestItStartsFromWhateverItIsPutOn by UEFI and BIOS, to where its API is ready.
func TestItStartsFromWhateverItIsPutOn(t *testing.T) {
	for _, c := range []Spec{{Bus: "virtio"}, {Bus: "pvscsi"}, {Bus: "usb"}, {Bus: "nvme"}, {Bus: "sata"}, {Bus: "virtscsi"}, {Bus: "virtio", BIOS: true}, {Bus: "sata", BIOS: true}, {Bus: "usb", BIOS: true}, {Bus: "lsi", BIOS: true}} {
		name := c.Bus + " by UEFI"
		if c.BIOS {
			name = c.Bus + " by BIOS"
		}
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			m, ctx := started(t, c)
			if err := m.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			t.Logf("ready after %.0f s", time.Since(began).Seconds())
		})
	}
}

// TestWhyItDoesNotStartIsOnTheConsole in one sentence, with what to try.
func TestWhyItDoesNotStartIsOnTheConsole(t *testing.T) {
	t.Run("no state can be made", func(t *testing.T) {
		m, ctx := started(t, Spec{Size: size(t)})
		says(t, m, ctx, "no state partition can be made", "hyper2kvm.state=ram")
	})
}

// size is the image's own: there is no room behind it.
func size(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(image(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func says(t *testing.T, m *Machine, ctx context.Context, what ...string) {
	t.Helper()
	for _, text := range append([]string{"The appliance does not start: "}, what...) {
		if err := m.Says(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(m.Serial(), "Try this: ") != 1 {
		t.Errorf("what to try is not told once:\n%s", tail(m.Serial()))
	}
}
