package direct

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// line is what the kernel said of a device.
type line struct {
	text string
	grim bool // a warning or worse
}

// about are the lines about a device, without its name, and closes the log.
func (l kernelLog) about(node string) (lines []line) {
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
		if said, ok := aboutDevice(string(record[:n]), filepath.Base(node)); ok {
			lines = append(lines, said)
		}
	}
	return lines
}

// warning is the level of a kernel's warnings; worse ones are below. The levels are
// in the lower bits of a record's first number.
//
// Source: syslog(2); Linux Documentation/ABI/testing/dev-kmsg.
const (
	warning = 4
	levels  = 7
)

// aboutDevice reads a record: numbers, a semicolon and a line, which file systems
// begin with their own name and the device.
func aboutDevice(record, device string) (line, bool) {
	numbers, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	first, _, _ := strings.Cut(numbers, ",")
	level, err := strconv.Atoi(first)
	for _, mark := range []string{" (" + device + ")", " (device " + device + ")", " (device " + device + " state"} {
		if _, rest, ok := strings.Cut(text, mark); ok && err == nil {
			_, said, found := strings.Cut(rest, ": ")
			return line{said, level&levels <= warning}, found
		}
	}
	return line{}, false
}

// replays are how file systems tell that they replay a journal.
//
// Source: Linux fs/ext4/super.c, fs/xfs/xfs_log_recover.c, fs/btrfs/disk-io.c.
var replays = regexp.MustCompile(`^(recovery complete|Starting recovery|start tree-log replay)`)

// replayed tells whether a journal was replayed, by what the kernel said.
func replayed(lines []line) bool {
	return slices.ContainsFunc(lines, func(l line) bool { return replays.MatchString(l.text) })
}

// complaint is the first that the kernel complained of, or "".
func complaint(lines []line) string {
	if i := slices.IndexFunc(lines, func(l line) bool { return l.grim }); i >= 0 {
		return lines[i].text
	}
	return ""
}
