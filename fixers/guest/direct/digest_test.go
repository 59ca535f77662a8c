package direct

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

// A digest that is made without room for a file's content is that of the content.
func TestADigestIsThatOfTheContent(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, "ext4", 64<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	data := make([]byte, 9<<20+12345) // more than goes through the window at once
	rand.NewChaCha8([32]byte{9}).Read(data)
	for _, content := range [][]byte{data, data[:1], {}} {
		must(t, g.WriteFile("/file", 0, content))
		sum := sha256.Sum256(content)
		size, got, err := g.Digest("/file", int64(len(content)))
		if want := hex.EncodeToString(sum[:]); err != nil || got != want || size != int64(len(content)) {
			t.Errorf("Digest of %d bytes = %d, %s, %v, want %s", len(content), size, got, err, want)
		}
	}
	must(t, g.WriteFile("/file", 0, data))
	if _, _, err := g.Digest("/file", int64(len(data)-1)); !errors.Is(err, guest.ErrTooBig) {
		t.Errorf("Digest of a file over the limit: %v, want %v", err, guest.ErrTooBig)
	}
	if _, _, err := g.Digest("/", 1); !errors.Is(err, guest.ErrNotRegular) {
		t.Errorf("Digest of a folder: %v, want %v", err, guest.ErrNotRegular)
	}
	must(t, g.Close())
}
