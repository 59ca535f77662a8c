// Package looptest shows files as block devices to tests.
package looptest

import (
	"errors"
	"os"
	"testing"

	"hyper2kvm/pipeline/disk/loop"
)

// Device shows a file until the test ends, and is the device's path.
func Device(t testing.TB, file string) string {
	t.Helper()
	d := Attach(t, file, 0, 0)
	t.Cleanup(func() { Detach(t, d) })
	return d.Node()
}

// Attach is loop.Attach by a file's name.
func Attach(t testing.TB, file string, offset, size int64) *loop.Device {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := loop.Attach(f, offset, size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return d
}

// Detach fails the test if a device cannot be detached.
func Detach(t testing.TB, d *loop.Device) {
	t.Helper()
	if err := d.Detach(); err != nil {
		t.Error(err)
	}
}
