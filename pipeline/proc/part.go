package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"golang.org/x/sys/unix"
)

// itself is this very program, even when a newer one is in its file's place.
const itself = "/proc/self/exe"

// command is what a service starts.
func (s Service) command(said *tail) (*exec.Cmd, error) {
	path, err := s.program()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, s.Args...)
	cmd.Args[0] = s.argv()[0]
	cmd.Env = append(cmd.Environ(), s.Env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Dir, s.Stdin, s.Stdout, said
	if s.Both != nil {
		both := io.MultiWriter(s.Both, said)
		cmd.Stdout, cmd.Stderr = both, both
	}
	cmd.ExtraFiles = s.Files
	cmd.WaitDelay = grace // a child of the server may hold its standard error open
	cmd.SysProcAttr = attributes()
	if s.PrivateMounts {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	}
	if s.Group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(s.Group.Fd())
	}
	return cmd, nil
}

// program is the file of what is started.
func (s Service) program() (string, error) {
	switch {
	case s.Program != nil: // by this process's number: the new one may have another file there
		return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.Program.Fd()), nil
	case s.Part:
		return itself, nil
	}
	return s.path()
}

// InMemory is a file with a program that no file system has.
//
// Source: memfd_create(2); MFD_EXEC is known since Linux 6.3, and what older ones do.
func InMemory(name string, content io.Reader) (_ *os.File, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the program %s in memory: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, content); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// within runs f on a thread that has, for what it starts, the rights that the program may
// have.
func (c Command) within(f func() error) error {
	switch {
	case c.Keep == nil:
		return pinned(f)
	case c.Confine == nil:
		return weakened(c.Keep, f)
	}
	return weakened(c.Keep, func() error {
		if err := c.Confine(); err != nil {
			return fmt.Errorf("confine %s: %w", c.Name, err)
		}
		return f()
	})
}

// weakened runs f on a thread of its own which has, for all that it starts, only the
// capabilities to keep, and no way to more.
//
// Source: capabilities(7), "Capability bounding set"; prctl(2), PR_SET_NO_NEW_PRIVS.
func weakened(keep []uintptr, f func() error) error {
	return apart(func() error {
		if err := bound(keep); err != nil {
			return err
		}
		return f()
	})
}

// bound takes from the calling thread what it may not hand on.
func bound(keep []uintptr) error {
	for c := uintptr(0); ; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > unix.CAP_LAST_CAP { // the kernel knows no more
			break
		}
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// Handed is the nth of the files that a part was started with.
func Handed(n int, name string) *os.File { return os.NewFile(uintptr(firstHanded+n), name) }

// firstHanded is where Go puts the files that a program is started with.
// Source: os/exec, Cmd.ExtraFiles.
const firstHanded = 3
