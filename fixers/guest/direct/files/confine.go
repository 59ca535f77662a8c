package files

import (
	"fmt"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// capabilities are those of someone who may read and write all files: owners, modes
// and a program's capabilities are kept, and room that is kept for root is used.
// With CAP_SYS_CHROOT the process enters the folder; afterwards no call can use it.
//
// Source: capabilities(7).
var capabilities = []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER,
	unix.CAP_FSETID, unix.CAP_SETFCAP, unix.CAP_SYS_RESOURCE, unix.CAP_SYS_CHROOT}

// calls are the system calls that are left: first those on files and on the two
// sockets, then what Go's runtime and the C library need for themselves. All others
// answer that they are not permitted; so do these where they were given a new way,
// such as clone with namespaces, for which the capabilities are missing.
var calls = []string{
	"openat2", "close", "read", "write", "pread64", "pwrite64", "readv", "writev", "ftruncate",
	"fstat", "newfstatat", "statx", "statfs", "fstatfs", "getdents64", "readlinkat", "fgetxattr", "fsetxattr",
	"mkdirat", "symlinkat", "unlinkat", "fchmod", "fchmodat", "fchownat", "utimensat",
	"sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "fcntl", "lseek",

	"brk", "clock_gettime", "clock_nanosleep", "clone", "clone3", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
	"eventfd2", "exit", "exit_group", "futex", "getpid", "getrandom", "gettid", "madvise", "membarrier", "mincore",
	"mmap", "mprotect", "mremap", "munmap", "nanosleep", "pipe2", "poll", "ppoll", "prctl", "restart_syscall", "rseq",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list",
	"sigaltstack", "tgkill", "timer_create", "timer_delete", "timer_settime", "setitimer", "uname",
}

// confine gives up all that this process will not need. Its files are those under a
// folder from then on.
func confine(folder string) error {
	if err := unix.Chroot(folder); err != nil {
		return fmt.Errorf("enter %s: %w", folder, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	filter := seccomp.Filter{
		Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: calls},
		}},
	}
	if err := seccomp.LoadFilter(filter); err != nil {
		return fmt.Errorf("give up system calls: %w", err)
	}
	return nil
}
