package appliance

import (
	"os"
	"strings"
	"testing"
)

// secureBoot tells whether the firmware has let through only what is signed.
const secureBoot = `echo "secure: <$(od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c)>"; echo "lockdown: <$(cat /sys/kernel/security/lockdown)>"`

// TestASignedImageStartsWithSecureBoot: a firmware without keys takes the image's, and from
// then on starts it, and no other.
func TestASignedImageStartsWithSecureBoot(t *testing.T) {
	signed := os.Getenv("SIGNED")
	if signed == "" {
		t.Skip("SIGNED names no image: run make test-appliance")
	}
	s := Spec{Home: t.TempDir(), Image: signed, Secure: true}
	enrolled(t, s)
	if said := inside(t, s, secureBoot); said["secure"] != "   1" {
		t.Errorf("within: %q", said)
	}
	s.Image = image(t)
	if err := os.Remove(s.disk()); err != nil {
		t.Fatal(err)
	}
	m, ctx := started(t, s)
	if err := m.Says(ctx, "Access Denied"); err != nil {
		t.Error(err)
	}
}

// enrolled has the machine's firmware take the image's key.
func enrolled(t *testing.T, s Spec) {
	t.Helper()
	m, ctx := started(t, s)
	if err := m.Ended(ctx); err != nil { // it restarts, which this machine does not
		t.Fatal(err)
	}
	if !strings.Contains(m.Serial(), "Secure Boot keys successfully enrolled") {
		t.Fatalf("it ended without taking the key:\n%s", tail(m.Serial()))
	}
}
