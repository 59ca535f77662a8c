package loop

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const size = 1 << 20

// made is a file of size bytes, of which each KiB has its number.
func made(t *testing.T) *os.File {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("makes block devices as root: set NEED_TOOLS=1")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	for i := range size >> 10 {
		_, err := f.Write([]byte(strings.Repeat(string(rune('a'+i%26)), 1<<10)))
		must(t, err)
	}
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func over(t *testing.T, f *os.File) []string {
	t.Helper()
	file, err := FileOf(f)
	must(t, err)
	paths, err := Over([]File{file})
	must(t, err)
	return paths
}

func TestADeviceIsAPartOfAFile(t *testing.T) {
	f := made(t)
	d, err := Attach(f, 2<<10, 4<<10)
	must(t, err)
	if got := over(t, f); !slices.Equal(got, []string{d.Node()}) {
		t.Errorf("over the file are %q, want %s", got, d.Node())
	}
	data, err := os.ReadFile(d.Node())
	if want := strings.Repeat("c", 1<<10) + strings.Repeat("d", 1<<10) + strings.Repeat("e", 1<<10) + strings.Repeat("f", 1<<10); string(data) != want || err != nil {
		t.Errorf("it has %d bytes, %.10q, %v", len(data), data, err)
	}
	must(t, os.WriteFile(d.Node(), []byte("written"), 0))
	must(t, d.Detach())
	written := make([]byte, 7)
	if _, err := f.ReadAt(written, 2<<10); string(written) != "written" || err != nil {
		t.Errorf("the file has %q, %v", written, err)
	}
	if left := over(t, f); len(left) > 0 {
		t.Errorf("%q are still over the file", left)
	}
}

func TestADeviceOfAFileThatIsOnlyReadIsReadOnly(t *testing.T) {
	f, err := os.Open(made(t).Name())
	must(t, err)
	defer f.Close()
	d, err := Attach(f, 0, 0)
	must(t, err)
	defer func() { must(t, d.Detach()) }()
	w, err := os.OpenFile(d.Node(), os.O_WRONLY, 0)
	if err == nil {
		_, err = w.Write([]byte("x"))
		w.Close()
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		t.Errorf("written to: %v", err)
	}
}

// TestOthersMayDetachTheirDevices: losetup asks the kernel to detach a device, and until it
// has closed that, whoever opens it is refused.
func TestOthersMayDetachTheirDevices(t *testing.T) {
	ours, theirs := made(t), made(t)
	ended := make(chan error, 1)
	go func() { ended <- detachAlways(t.Context(), theirs) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for range 1000 {
		d, err := Attach(ours, 0, 0)
		must(t, err)
		if got := over(t, ours); !slices.Equal(got, []string{d.Node()}) {
			t.Fatalf("over the file are %q, want %s", got, d.Node())
		}
		must(t, d.Detach())
	}
}

// TestDevicesThatAContainerDoesNotHaveAreNotAsked: /sys shows all of the host's.
func TestDevicesThatAContainerDoesNotHaveAreNotAsked(t *testing.T) {
	f := made(t)
	d, err := Attach(f, 0, 0)
	must(t, err)
	defer func() { must(t, d.Detach()) }()
	file, err := FileOf(f)
	must(t, err)
	asked := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the mount namespace ends with the thread
		err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", "/dev", "tmpfs", 0, ""))
		if err == nil {
			_, err = Over([]File{file})
		}
		asked <- err
	}()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if got := over(t, f); !slices.Equal(got, []string{d.Node()}) {
		t.Errorf("outside %q are over the file, want %s", got, d.Node())
	}
}

// detachAlways does what losetup does, attaching and detaching, until ctx ends.
func detachAlways(ctx context.Context, file *os.File) error {
	for ctx.Err() == nil {
		d, err := Attach(file, 0, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.IoctlSetInt(int(d.file.Fd()), unix.LOOP_CLR_FD, 0), d.file.Close()); err != nil {
			return err
		}
	}
	return nil
}
