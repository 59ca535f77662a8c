package direct

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// Identify tells what a part of a disk holds; ok is false if that is unknown.
func Identify(ctx context.Context, disk *os.File, offset, size int64, log *slog.Logger) (fs guest.Filesystem, ok bool, err error) {
	own, err := os.Open(ownPath(disk)) // which cannot be written to
	if err != nil {
		return fs, false, err
	}
	defer own.Close()
	blkid := confined(ownPath(own), false, "blkid", blkidArgs(offset, size)...)
	blkid.Stdin, blkid.Args[len(blkid.Args)-1] = own, "/proc/self/fd/0"
	out, err := blkid.Run(ctx)
	failure, failed := errors.AsType[*proc.Error](err)
	switch {
	case failed && failure.Exit == 2: // nothing found
		return guest.Filesystem{}, false, nil
	case failed && failure.Exit == 8: // signatures of several
		log.Warn("more than one file system's signature")
		return guest.Filesystem{}, false, nil
	case err != nil:
		return guest.Filesystem{}, false, err
	}
	fs, err = parseBlkid(out)
	fs.Size = size
	return fs, fs.Type != "", err
}

// ownPath is the path of a file that this process has open.
func ownPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// blkidArgs ask for udev's format: it alone is unambiguous, since labels are
// a guest's and may hold anything.
func blkidArgs(offset, size int64) []string {
	return []string{"-p", "-o", "udev", "--offset", strconv.FormatInt(offset, 10), "--size", strconv.FormatInt(size, 10)}
}

func parseBlkid(out []byte) (fs guest.Filesystem, err error) {
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "ID_FS_TYPE":
			fs.Type = value
		case "ID_FS_UUID_ENC":
			fs.UUID, err = unescape(value)
		case "ID_FS_LABEL_ENC":
			fs.Label, err = unescape(value)
		}
		if err != nil {
			return fs, fmt.Errorf("blkid: %s: %w", key, err)
		}
	}
	return fs, nil
}

// unescape undoes libblkid's encoding: \x and two hex digits.
func unescape(s string) (string, error) {
	var out strings.Builder
	for {
		plain, rest, found := strings.Cut(s, `\x`)
		out.WriteString(plain)
		if !found {
			return out.String(), nil
		}
		if len(rest) < 2 {
			return "", fmt.Errorf("%q: incomplete escape", s)
		}
		b, err := strconv.ParseUint(rest[:2], 16, 8)
		if err != nil {
			return "", err
		}
		out.WriteByte(byte(b))
		s = rest[2:]
	}
}
