package disk

import (
	"fmt"
	"syscall"
)

// spareFiles are those that QEMU has open besides a disk's, and fewFiles what
// every system lets a program open.
const (
	spareFiles = 100
	fewFiles   = 256
)

// manyFiles lets the programs that are started from here on open the files of a
// disk in so many pieces: a disk of 2 TB has a thousand. Go gives its children
// the limit that it was started with, unless the program sets one itself.
//
// Source: Go, os/rlimit.go, syscall/rlimit.go.
func manyFiles(path string, n int) error {
	need := uint64(n + spareFiles)
	if need <= fewFiles {
		return nil
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < need {
		return fmt.Errorf("%s: it is in %d files, and this system lets a program open %d; raise that (ulimit -Hn %d, as root) and give the command again", path, n, limit.Max, need)
	}
	limit.Cur = max(limit.Cur, need)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
