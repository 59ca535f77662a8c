package direct

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// A program that reads a stranger's metadata has one device, and is root of nothing else:
// without a capability, and with no way to one. Landlock keeps files and other devices
// from it, and where the kernel has that as well, the network and other processes. What
// Landlock does not know of, and root may do to its files, is filtered.
//
// Source: capabilities(7), landlock(7).

// confined is a program with a device as its last argument, which it reads, or writes too.
func confined(device string, writes bool, name string, args ...string) proc.Command {
	return proc.Command{
		Name: name, Args: append(slices.Clone(args), device), Env: []string{"LC_ALL=C"},
		Keep:    []uintptr{},
		Confine: func() error { return errors.Join(landlock(device, writes), withoutCalls()) },
	}
}

// Rights of Landlock's to files, by what there are for.
const (
	mayRun    = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayRead   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayAsk    = mayRead | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	mayChange = mayAsk | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
)

// landlock leaves to this thread, and what it starts, all files of this system to read, and
// of its devices one. A kernel without Landlock leaves more.
func landlock(device string, writes bool) error {
	version, err := landlockVersion()
	if version == 0 || err != nil {
		return err
	}
	rules := rulesOf(version)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return fmt.Errorf("landlock: make a set of rules: %w", errno)
	}
	set := os.NewFile(fd, "landlock")
	defer set.Close()
	allowed, err := readable()
	if err != nil {
		return err
	}
	allowed[device] = mayAsk
	if writes {
		allowed[device] = mayChange
	}
	for path, rights := range allowed {
		err := allow(set, path, rights&rules.Handled_access_fs)
		switch {
		case path == device && errors.Is(err, unix.EBADFD):
			err = nil // it is in no file system, and kept from nobody: landlock_add_rule(2)
		case path != device && errors.Is(err, unix.ENOENT):
			err = nil // it was removed since, and is needed by nobody
		}
		if err != nil {
			return fmt.Errorf("landlock: allow %s: %w", path, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set.Fd(), 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// landlockVersion is what this kernel knows of Landlock; 0 for nothing.
func landlockVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(version), nil
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, nil
	}
	return 0, fmt.Errorf("landlock: %w", errno)
}

// rulesOf is all that a version of Landlock can keep.
//
// Source: Linux Documentation/userspace-api/landlock.rst, "Previous limitations".
func rulesOf(version int) unix.LandlockRulesetAttr {
	rules := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1}
	for since, right := range map[int]uint64{2: unix.LANDLOCK_ACCESS_FS_REFER, 3: unix.LANDLOCK_ACCESS_FS_TRUNCATE, 5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV} {
		if version >= since {
			rules.Handled_access_fs |= right
		}
	}
	if version >= 4 {
		rules.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return rules
}

// readable is what is not a device, and those that hold nothing.
func readable() (map[string]uint64, error) {
	allowed := map[string]uint64{"/dev/null": mayRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE, "/dev/urandom": mayRead}
	entries, err := os.ReadDir("/")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "dev" { // what a link leads to is below one of the others
			allowed["/"+e.Name()] = mayRun
		}
	}
	return allowed, nil
}

func allow(set *os.File, path string, rights uint64) error {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(f.Fd())}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set.Fd(), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// notCalled are system calls that root has without a capability, and no checker needs.
var notCalled = []string{
	"chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "utimensat", "futimesat",
	"setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
	"kill", "pidfd_send_signal", "ptrace", "process_vm_readv", "process_vm_writev",
	"socket", "bpf", "perf_event_open", "io_uring_setup", "userfaultfd", "keyctl", "add_key", "request_key", "unshare",
}

func withoutCalls() error {
	return seccomp.LoadFilter(seccomp.Filter{Policy: seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionErrno, Names: notCalled},
	}}})
}
