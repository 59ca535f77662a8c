package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// Machine is where the appliance runs.
type Machine struct {
	Sys, Proc string
	Dev       string
	Root      string                                                                // the device number of the root that is mounted, MAJOR:MINOR
	Release   string                                                                // os-release
	Trust     string                                                                // certificates of those whose archives are taken, PEM
	Run       string                                                                // a folder that does not outlive the machine
	Mount     func(ctx context.Context, device, folder string, readOnly bool) error // a device, or a file with an ESP
	Unmount   func(folder string) error

	step func(name string) error // tests end here
	busy sync.Mutex
	turn time.Duration
}

// ThisMachine is the one that this program runs on.
func ThisMachine() (*Machine, error) {
	var s unix.Stat_t
	if err := unix.Stat("/", &s); err != nil {
		return nil, err
	}
	return &Machine{Sys: "/sys", Proc: "/proc", Dev: "/dev", Root: fmt.Sprintf("%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev)),
		Release: "/usr/lib/os-release", Trust: "/usr/lib/hyper2kvm/update.crt", Run: "/run/hyper2kvm", Mount: mountESP, Unmount: unmountESP, turn: turn}, nil
}

// mountESP mounts the partition that the machine started from, or a copy of it in a file, as
// long as it is needed.
func mountESP(ctx context.Context, device, folder string, readOnly bool) error {
	options := "nosuid,nodev,noexec,umask=0077"
	if readOnly {
		options += ",ro"
	}
	_, err := proc.Run(ctx, "mount", "-t", "vfat", "-o", options, "--", device, folder)
	return err
}

func unmountESP(folder string) error { return unix.Unmount(folder, 0) }

// onESP does something with an ESP.
func (m *Machine) onESP(ctx context.Context, device string, readOnly bool, do func(esp) error) (err error) {
	folder := filepath.Join(m.Run, "esp")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := m.Mount(ctx, device, folder, readOnly); err != nil {
		return fmt.Errorf("mount %s, which this machine starts from: %w", device, err)
	}
	defer func() { err = errors.Join(err, m.Unmount(folder)) }()
	return do(esp{folder, m.did})
}

// did is told after each thing that is written.
func (m *Machine) did(what string) error {
	if m.step == nil {
		return nil
	}
	return m.step(what)
}

// Version is the one that runs; "" where that is no appliance.
func (m *Machine) Version() (string, error) {
	release, err := os.ReadFile(m.Release)
	if err != nil {
		return "", err
	}
	return value(string(release), "IMAGE_VERSION"), nil
}

// alone keeps others from the machine's versions, in this process and in others. Who has
// waited so long for them is told ErrBusy; forever is no limit.
func (m *Machine) alone(ctx context.Context, wait time.Duration) (release func() error, err error) {
	for deadline := time.Now().Add(wait); ; {
		release, err := m.tryAlone()
		if !errors.Is(err, ErrBusy) || wait != forever && !time.Now().Before(deadline) {
			return release, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const forever = -1

// turn is how long an update waits for those that only look at the versions: seconds, on a
// busy machine.
const turn = 30 * time.Second

func (m *Machine) tryAlone() (release func() error, err error) {
	if !m.busy.TryLock() {
		return nil, ErrBusy
	}
	defer func() {
		if err != nil {
			m.busy.Unlock()
		}
	}()
	if err := os.MkdirAll(m.Run, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(m.Run, "update.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w, by another program", ErrBusy)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		defer m.busy.Unlock()
		return f.Close()
	}, nil
}

// trust is whose archives are taken.
func (m *Machine) trust() ([]byte, error) {
	text, err := os.ReadFile(m.Trust)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("%w: its image was built without a key: build one with make image KEYS=FOLDER, and write that to the disk once", ErrCannot)
	}
	return text, err
}

// words are those of the kernel's command line.
func (m *Machine) words() ([]string, error) {
	line, err := os.ReadFile(filepath.Join(m.Proc, "cmdline"))
	return strings.Fields(string(line)), err
}

// byBIOS tells whether GRUB has started this machine.
func (m *Machine) byBIOS() bool {
	_, err := os.Stat(filepath.Join(m.Sys, "firmware/efi"))
	return err != nil
}

// attr is the text of a file in sysfs; "" if there is none.
func (m *Machine) attr(path ...string) string {
	text, err := os.ReadFile(filepath.Join(append([]string{m.Sys}, path...)...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
