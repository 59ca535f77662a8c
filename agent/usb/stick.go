package usb

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Stick is a device that an image can go onto.
type Stick struct {
	Path      string
	Size      int64
	Model     string // empty if it does not tell
	Serial    string
	Removable bool // it is one that is plugged in and out
}

// OpenStick looks at a device, by its file, and at what a folder such as /sys tells of it.
// It changes nothing.
func OpenStick(path, sys string) (*Stick, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStick, err)
	}
	if info.Mode().Type() != os.ModeDevice {
		return nil, fmt.Errorf("%w: %s is no block device: give the whole stick, such as /dev/sdb", ErrStick, path)
	}
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return nil, err
	}
	folder, err := filepath.EvalSymlinks(fmt.Sprintf("%s/dev/block/%d:%d", sys, unix.Major(s.Rdev), unix.Minor(s.Rdev)))
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel does not know %s: %w", ErrStick, path, err)
	}
	return stick(path, folder)
}

func stick(path, folder string) (*Stick, error) {
	if _, err := os.Stat(filepath.Join(folder, "partition")); err == nil {
		return nil, fmt.Errorf("%w: %s is a partition: give the whole stick, /dev/%s", ErrStick, path, filepath.Base(filepath.Dir(folder)))
	}
	if attribute(folder, "ro") == "1" {
		return nil, fmt.Errorf("%w: %s is write-protected", ErrStick, path)
	}
	sectors, err := strconv.ParseInt(attribute(folder, "size"), 10, 64)
	if err != nil || sectors == 0 {
		return nil, fmt.Errorf("%w: %s holds nothing: is a card in its reader?", ErrStick, path)
	}
	return &Stick{Path: path, Size: sectors * 512, Model: strings.TrimSpace(attribute(folder, "device/vendor") + " " + attribute(folder, "device/model")),
		Serial: serial(folder), Removable: attribute(folder, "removable") == "1" || strings.Contains(folder, "/usb")}, nil
}

// serial is what the USB device calls itself, which is some folders above its disk.
func serial(folder string) string {
	for ; len(folder) > 1; folder = filepath.Dir(folder) {
		if text := attribute(folder, "serial"); text != "" {
			return text
		}
	}
	return ""
}

func attribute(folder, name string) string {
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// String is what people know a stick by.
func (s *Stick) String() string {
	words := []string{s.Path}
	for _, w := range []string{s.Model, s.Serial} {
		if w != "" {
			words = append(words, w)
		}
	}
	return fmt.Sprintf("%s (%.1f GB)", strings.Join(words, ", "), float64(s.Size)/1e9)
}
