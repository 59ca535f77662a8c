package guest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Condition is what is known of a file system's structure.
type Condition string

// The conditions of a file system.
const (
	Clean     Condition = "clean"
	Damaged   Condition = "damaged"
	Unchecked Condition = "not checked"
)

// Health is what a file system's own checker found, which changes nothing.
type Health struct {
	Device string    `json:"device"`
	Type   string    `json:"type"`
	State  Condition `json:"state"`
	// Text is the first of what the checker complained of, or why nothing was
	// checked.
	Text string `json:"text,omitempty"`
}

// CheckLimit is how long one file system is checked: the largest take hours,
// over a network more, and a migration shall not wait for that.
const CheckLimit = 5 * time.Minute

// CheckOutput is how much of what a checker says is read.
const CheckOutput = 64 << 10

// Checker is the program that checks file systems of one type. Engines mount and
// unmount what they check, for a journal that was not replayed looks like damage.
type Checker struct {
	Program string
	Args    []string // in front of the device
	faults  map[int]bool
	// chatter matches lines that tell of no fault.
	chatter *regexp.Regexp
	// unable matches output of a checker that does not know such a file system,
	// lacks the memory for it, or sees a journal that was not replayed.
	unable *regexp.Regexp
	// lenient: where all lines are chatter there is no fault, whatever the status.
	lenient bool
}

// e2fsck's status is a sum, of 4 for "errors left uncorrected" and 8 for an
// operational error; the others end with 1. -P:
// xfs_repair does not read ahead, which needs more memory. fsck.fat takes for
// faults a dirty flag, the backup of the boot sector that lacks it, and a wrong
// count of free clusters: a FAT that was in use when a snapshot was taken has them
// all, and loses nothing by them.
//
// Source: e2fsck(8), xfs_repair(8), btrfs-check(8), fsck.fat(8).
var (
	ext = Checker{Program: "e2fsck", Args: []string{"-f", "-n"}, faults: map[int]bool{4: true, 4 + 8: true},
		chatter: regexp.MustCompile(`^(e2fsck \d|Pass \d|(Fix|Clear)\? no$|.*: \d+/\d+ files |.*WARNING: Filesystem still has errors)`),
		unable:  regexp.MustCompile(`skipping journal recovery`)}
	checkers = map[string]Checker{
		"ext2": ext, "ext3": ext, "ext4": ext,
		"xfs": {Program: "xfs_repair", Args: []string{"-n", "-P"}, faults: map[int]bool{1: true},
			chatter: regexp.MustCompile(`^(Phase \d|- |No modify flag set)`),
			unable:  regexp.MustCompile(`Required memory|unsupported filesystem features|valuable metadata changes in a log`)},
		"btrfs": {Program: "btrfs", Args: []string{"check", "--readonly"}, faults: map[int]bool{1: true},
			chatter: regexp.MustCompile(`^(\[\d/\d\] |Opening filesystem|Checking filesystem|UUID: |found \d+ bytes|total |btree space|file data blocks|referenced )`),
			unable:  regexp.MustCompile(`unsupported option|is missing`)},
		"vfat": {Program: "fsck.fat", Args: []string{"-n"}, lenient: true, faults: map[int]bool{1: true},
			chatter: regexp.MustCompile(`^(fsck\.fat \d|There are differences between boot sector|This is mostly harmless|65:01/00$|Not automatically fixing|Dirty bit is set|Automatically removing dirty bit|Free cluster summary|Auto-correcting|Leaving filesystem|.*: \d+ files, )`)},
	}
)

// CheckerFor finds the checker of a file system; without one, the Health says why.
func CheckerFor(f Filesystem) (c Checker, h Health, ok bool) {
	h = Health{Device: f.Device, Type: f.Type, State: Unchecked}
	switch c, ok = checkers[f.Type]; {
	case ok:
	case f.Type == "ntfs":
		h.Text = "only Windows' own chkdsk proves that NTFS is whole: ntfsfix looks at its first records and its log"
	default:
		h.Text = "no checker is known for it"
	}
	return c, h, ok
}

// Mounted adds what became of the mount that should have replayed the journal.
// The kernel refuses some file systems for what is wrong in them: a structure, or
// its checksum.
//
// Source: Linux fs/ext4/ext4.h, fs/xfs/xfs_linux.h, EFSCORRUPTED and EFSBADCRC.
func (h Health) Mounted(err error) Health {
	if err == nil {
		return h
	}
	if h.State == Clean {
		h.State, h.Text = Unchecked, "its checker finds no fault"
	}
	h.Text += fmt.Sprintf("; it could not be mounted: %v", err)
	for _, damage := range []error{syscall.EUCLEAN, syscall.EBADMSG} {
		if strings.Contains(strings.ToLower(err.Error()), damage.Error()) {
			h.State = Damaged
		}
	}
	return h
}

// Overdue is the health of a file system whose checker did not come to its end.
func (h Health) Overdue() Health {
	h.State, h.Text = Unchecked, fmt.Sprintf("its check was given up after %v", CheckLimit)
	return h
}

// Judge reads a checker's exit status and its output.
func (c Checker) Judge(exit int, said string) (Condition, string) {
	told := c.telling(said)
	switch {
	case exit == 0:
		return Clean, ""
	case !c.faults[exit] || c.unable != nil && c.unable.MatchString(said):
		return Unchecked, c.Program + ": " + told
	case told == "" && c.lenient:
		return Clean, ""
	}
	return Damaged, c.Program + ": " + told
}

// Bounds of the text of a Health.
const (
	maxTelling = 3   // lines
	maxLine    = 200 // bytes
)

// telling are the first lines that tell of a fault, each once.
func (c Checker) telling(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if len(line) > maxLine {
			line = strings.ToValidUTF8(line[:maxLine], "") + "…"
		}
		if line != "" && !c.chatter.MatchString(line) && !slices.Contains(lines, line) && len(lines) < maxTelling {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
