package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/files"
	"hyper2kvm/pipeline/proc"
)

// NTFS is shown by a program, through FUSE: the kernel does not read a stranger's
// metadata then, and a kernel without a driver of its own will do.

// ntfsMemory is what the program may take. It keeps a cache of what it has looked up.
const ntfsMemory = 96 << 20

// ntfsLimit is how long it may take to mount.
const ntfsLimit = 2 * time.Minute

// mountNTFS starts the program, and returns it when it shows the file system.
func mountNTFS(ctx context.Context, node, target string) (*proc.Server, error) {
	if err := known("fuseblk"); err != nil {
		return nil, fmt.Errorf("%w: the kernel has no FUSE: %w", ErrUnsupported, err)
	}
	before, err := mountAt(target)
	if err != nil {
		return nil, err
	}
	s, err := proc.Start(ctx, proc.Service{NoSocket: true, Command: proc.Command{
		Name: guest.NTFSProgram, Memory: ntfsMemory, Env: []string{"LC_ALL=C"},
		// no_detach: it stays our child, and ends with us.
		Args: []string{"-o", "no_detach,nosuid,nodev,noexec,noatime," + guest.NTFSOptions, node, target},
	}})
	if errors.Is(err, proc.ErrMissing) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, err
	}
	if err := awaitMount(s, target, before); err != nil {
		return nil, errors.Join(fmt.Errorf("mount as ntfs: %w", err), s.Kill(), unmountFailed(target, before))
	}
	return s, nil
}

// unmountFailed unmounts what nobody shows any more, if it was mounted at all.
func unmountFailed(target, before string) error {
	now, err := mountAt(target)
	if now == before || err != nil {
		return err
	}
	return unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
}

// answers asks the program for the root folder: it mounts before it gives up its rights.
func answers(s *proc.Server, target string) error {
	var st unix.Stat_t
	err := unix.Stat(target, &st)
	if err != nil {
		<-time.After(lastWords)
		err = cmp.Or(s.Err(), err)
	}
	return err
}

// mountAt is the number of the mount that a path leads to.
func mountAt(target string) (string, error) {
	fd, err := unix.Open(target, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return files.MountID(fd)
}

func awaitMount(s *proc.Server, target, before string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(ntfsLimit); time.Now().Before(deadline); {
		now, err := mountAt(target)
		if err != nil {
			return err
		}
		if now != before {
			return answers(s, target)
		}
		select {
		case <-s.Done():
			return cmp.Or(s.Err(), errEarly)
		case <-tick.C:
		}
	}
	return fmt.Errorf("it was not shown within %v", ntfsLimit)
}

var errEarly = errors.New("the program that shows it ended")

// ended waits until the program has written all that it had, and has let go of the
// device: it does so when its file system is unmounted.
func ended(s *proc.Server) error {
	select {
	case <-s.Done():
		return s.Err()
	case <-time.After(ntfsLimit):
		return errors.Join(fmt.Errorf("%s is still there %v after it was unmounted", guest.NTFSProgram, ntfsLimit), s.Kill())
	}
}
