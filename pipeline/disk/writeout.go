package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// WriteOut has the kernel begin to bring a file to its storage, and does not wait for
// it: a sync that follows finds less left to do. Errors are the sync's to tell.
//
// Source: sync_file_range(2).
func WriteOut(f *os.File) { _ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }
