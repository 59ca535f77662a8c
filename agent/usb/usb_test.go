package usb

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"hyper2kvm/agent/disks"
	"hyper2kvm/pipeline/disk/loop/looptest"
)

// image is what begins as an image of the appliance does, raw and compressed.
func image(t *testing.T, size int) (raw []byte, path, compressed string) {
	t.Helper()
	raw = make([]byte, size)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	copy(raw[510:], "\x55\xaaEFI PART")
	path = filepath.Join(t.TempDir(), "hyper2kvm.raw")
	compressed = path + ".zst"
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, raw, 0o600), os.WriteFile(compressed, e.EncodeAll(raw, nil), 0o600)); err != nil {
		t.Fatal(err)
	}
	return raw, path, compressed
}

// device is a loop device of a file with old data. The kernel says of it that it cannot be
// plugged out, as of a disk that is built in.
func device(t *testing.T, size int64) (path, file string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("NEED_TOOLS is not set")
	}
	file = filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(file, bytes.Repeat([]byte("old "), int(size/4)), 0o600); err != nil {
		t.Fatal(err)
	}
	return looptest.Device(t, file), file
}

// opened are an image and a stick that can be used.
func opened(t *testing.T, image, stick string) (*Image, *Stick) {
	t.Helper()
	i, bad := OpenImage(image)
	s, err := OpenStick(stick, disks.ThisMachine())
	if err := errors.Join(bad, err); err != nil {
		t.Fatal(err)
	}
	return i, s
}

func quietly(bool, int64, int64) {}

func TestAnImageIsWrittenAndReadBack(t *testing.T) {
	raw, path, compressed := image(t, 9<<20+512)
	for _, from := range []string{path, compressed} {
		stick, file := device(t, 16<<20)
		i, s := opened(t, from, stick)
		if s.Pluggable() || s.Size != 16<<20 || i.Size != int64(len(raw)) {
			t.Errorf("got %+v and %+v", s, i)
		}
		var verified int64
		if err := Write(t.Context(), i, s, func(v bool, done, _ int64) {
			if v {
				verified = done
			}
		}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got[:len(raw)], raw) || !bytes.HasPrefix(got[len(raw):], []byte("old ")) || verified != int64(len(raw)) {
			t.Errorf("it is another one on the stick, or not verified: %d, %v", verified, err)
		}
	}
}

// TestAStickThatWasNotWrittenWholeDoesNotStart: its partition table is missing until the
// end, and not in memory alone: the device is still held, so that nothing was written through
// because it was closed.
func TestAStickThatWasNotWrittenWholeDoesNotStart(t *testing.T) {
	_, path, _ := image(t, 12<<20)
	stick, file := device(t, 16<<20)
	i, s := opened(t, path, stick)
	ctx, cancel := context.WithCancel(t.Context())
	if err := Write(ctx, i, s, func(bool, int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	got, err := os.ReadFile(file)
	if err != nil || len(bytes.Trim(got[:chunk], "\x00")) > 0 {
		t.Errorf("its begin is there: %v", err)
	}
}

func TestWhatCannotBeUsedIsToldAndNotTouched(t *testing.T) {
	raw, path, compressed := image(t, 5<<20)
	broken, err := os.ReadFile(compressed)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, c := range map[string]struct {
		text  []byte
		words string
	}{"a part": {broken[:len(broken)/2], "download it again"}, "another file": {bytes.Repeat([]byte("text"), 1024), "not the appliance's"}, "nothing": {nil, "it is empty"}} {
		at := filepath.Join(folder, name)
		if err := os.WriteFile(at, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenImage(at); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := OpenStick(path, disks.ThisMachine()); !errors.Is(err, ErrStick) || !strings.Contains(err.Error(), "no block device") {
		t.Errorf("a file is taken for a stick: %v", err)
	}
	stick, file := device(t, 4<<20)
	i, s := opened(t, path, stick)
	if err := Write(t.Context(), i, s, quietly); !errors.Is(err, ErrStick) || !strings.Contains(err.Error(), "take a larger one") {
		t.Errorf("a small stick is %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(got, []byte("old ")) || len(raw) < len(got) {
		t.Errorf("it was written to: %v", err)
	}
}
