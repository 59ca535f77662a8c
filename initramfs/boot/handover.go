package boot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// path is where the root's programs are.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

// run runs a program of the new root, in it.
func run(name string, args ...string) (said string, err error) {
	c := exec.Command("/usr/bin/"+name, args...)
	for _, folder := range []string{"/usr/sbin/", "/usr/bin/"} {
		if _, err := os.Stat(newRoot + folder + name); err == nil {
			c.Path = folder + name
		}
	}
	c.Dir, c.Env = "/", []string{path, "LC_ALL=C.UTF-8", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_COLORS=0"}
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: newRoot}
	out, err := c.CombinedOutput()
	return string(out), err
}

// exit is a program's code; -1: it did not run.
func exit(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}

// last is the last line of what a program said, or why it did not run.
func last(said string, err error) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if line := strings.TrimSpace(lines[len(lines)-1]); line != "" {
		return line
	}
	return err.Error()
}

func resize(f *os.File, size uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Resize, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return errno
	}
	return nil
}

// machineID gives this appliance an identity of its own, once.
// Source: machine-id(5).
func machineID(file string) error {
	if text, err := os.ReadFile(file); err == nil && len(strings.TrimSpace(string(text))) == 32 {
		return nil
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(hex.EncodeToString(id)+"\n"), 0o444)
}

// handOver makes the new root the root, and starts systemd in it.
func handOver() error {
	empty("/")
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	for _, at := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("leave %s: %w", at, err)
		}
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root to its place: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	err := unix.Exec("/usr/lib/systemd/systemd", []string{"/sbin/init"}, []string{path, "TERM=linux"})
	return sentence("systemd cannot be started: %v", "write the image to the disk anew", err)
}

// empty gives the initramfs's memory back: its files go, and nothing below other mounts.
func empty(folder string) {
	var top unix.Stat_t
	if err := unix.Lstat(folder, &top); err != nil {
		return
	}
	_ = filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err != nil || unix.Lstat(name, &s) != nil {
			return nil
		}
		if s.Dev != top.Dev {
			return fs.SkipDir
		}
		if !d.IsDir() {
			_ = os.Remove(name) // memory alone is lost
		}
		return nil
	})
}
