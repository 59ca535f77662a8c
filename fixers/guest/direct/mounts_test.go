package direct

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
