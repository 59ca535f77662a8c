package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClaimed is a name that somebody else has.
var ErrClaimed = errors.New("another migration has it")

// between is how long after one try a name is asked for again.
const between = 50 * time.Millisecond

// Claim takes a name, of which there is one among all processes of this machine (of a
// network namespace, that is), until the file is closed: it is that of a socket, which
// the kernel frees however the process ends.
func Claim(name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", name, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@hyper2kvm-" + name}); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = ErrClaimed
		}
		return nil, errors.Join(fmt.Errorf("claim %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// AwaitClaim takes a name as soon as nobody else has it, or until ctx ends.
func AwaitClaim(ctx context.Context, name string) (*os.File, error) {
	for {
		claim, err := Claim(name)
		if !errors.Is(err, ErrClaimed) {
			return claim, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(between):
		}
	}
}
