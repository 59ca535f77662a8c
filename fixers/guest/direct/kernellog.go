package direct

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelLog reads what this kernel says from now on. mount(2) answers with a
// number; why, and whether a journal was replayed, is in the log alone.
type kernelLog struct{ file *os.File } // nil where the log cannot be read

// openKernelLog begins at the log's end. A machine that hides its log has none.
func openKernelLog() kernelLog {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return kernelLog{}
	}
	f := os.NewFile(uintptr(fd), "/dev/kmsg")
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		f.Close()
		return kernelLog{}
	}
	return kernelLog{f}
}

// Bounds of what is read of the log: a record's size is the kernel's.
const (
	maxRecord  = 8 << 10
	maxRecords = 1000
)

// about are the lines about a device, without its name, and closes the log.
func (l kernelLog) about(node string) (lines []string) {
	if l.file == nil {
		return nil
	}
	defer l.file.Close()
	record := make([]byte, maxRecord)
	for range maxRecords {
		n, err := unix.Read(int(l.file.Fd()), record)
		if errors.Is(err, unix.EPIPE) { // some were overwritten
			continue
		}
		if err != nil {
			break
		}
		if line, ok := aboutDevice(string(record[:n]), filepath.Base(node)); ok {
			lines = append(lines, line)
		}
	}
	return lines
}

// aboutDevice reads a record: numbers, a semicolon and a line, which file systems
// begin with their own name and the device.
//
// Source: Linux Documentation/ABI/testing/dev-kmsg.
func aboutDevice(record, device string) (line string, ok bool) {
	_, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	for _, mark := range []string{" (" + device + ")", " (device " + device + ")", " (device " + device + " state"} {
		if _, line, ok := strings.Cut(text, mark); ok {
			_, line, _ = strings.Cut(line, ": ")
			return line, line != ""
		}
	}
	return "", false
}

// replays are how file systems tell that they replay a journal.
//
// Source: Linux fs/ext4/super.c, fs/xfs/xfs_log_recover.c, fs/btrfs/disk-io.c.
var replays = regexp.MustCompile(`^(recovery complete|Starting recovery|start tree-log replay)`)

// replayed tells whether a journal was replayed, by what the kernel said.
func replayed(lines []string) bool {
	for _, line := range lines {
		if replays.MatchString(line) {
			return true
		}
	}
	return false
}
