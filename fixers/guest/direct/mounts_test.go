package direct

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/direct/files"
)

func TestAnotherKernelMayShowWhatThisOneRefuses(t *testing.T) {
	for err, want := range map[error]bool{
		unix.ENODEV: true, unix.EINVAL: true, unix.EOPNOTSUPP: true, unix.ENOSYS: true, unix.EEXIST: true,
		unix.EUCLEAN: false, unix.EBADMSG: false, unix.EIO: false, unix.ENOMEM: false, unix.EROFS: false,
	} {
		got := refused("xfs", err, []line{{"mounting", false}, {"first", true}, {"second", true}})
		if errors.Is(got, ErrUnsupported) != want || !errors.Is(got, err) || !strings.HasSuffix(got.Error(), "the kernel says: first") {
			t.Errorf("refused(%v) = %v, want unsupported %v", err, got, want)
		}
	}
	if got := refused("vfat", unix.ENODEV, []line{{"mounting", false}}); strings.Contains(got.Error(), "the kernel says") {
		t.Errorf("refused = %v, though the kernel did not complain", got)
	}
}

// TestAttributesAreKeptOnTheGuestsMountsAlone: whoever reads a guest's files may not
// have the attributes of another file changed.
func TestAttributesAreKeptOnTheGuestsMountsAlone(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	must(t, err)
	defer dir.Close()
	m := &mounts{}
	if err := m.have(int(dir.Fd())); !errors.Is(err, unix.EPERM) {
		t.Errorf("a file elsewhere: error %v, want %v", err, unix.EPERM)
	}
	id, err := files.MountID(int(dir.Fd()))
	must(t, err)
	m.ids.Store(id, true)
	must(t, m.have(int(dir.Fd())))
}
