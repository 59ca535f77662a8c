package direct

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// mapped is a device of device-mapper's over others. As soon as it is there
// the kernel is told to remove it when its last user lets go, so that it ends with
// the process, killed or not.
type mapped struct {
	control *os.File
	under   []device
	name    string
	path    string
	dev     string   // major:minor
	copies  bool     // it writes to mirrors
	file    *os.File // nil until it is made
}

// mappedCount makes names unique within the process.
var mappedCount atomic.Int64

// mappedName is what a device is called, by its owner: the process IDs of this
// machine's containers are equal, their namespaces are not.
func mappedName(namespace uint64, pid int, n int64) string {
	return fmt.Sprintf("hyper2kvm-%d-%d-%d", namespace, pid, n)
}

var mappedNames = regexp.MustCompile(`^hyper2kvm-(\d+)-(\d+)-\d+$`)

// namespace is the one that this process's ID is from.
func namespace() (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/self/ns/pid", &st)
	return st.Ino, err
}

// make makes the device by its table.
func (m *mapped) make(table []target) error {
	m.copies = slices.ContainsFunc(table, func(t target) bool { return t.kind == mirror })
	return m.makeOf(len(table), encodeTable(table))
}

// makeOf makes the device by a table of so many targets.
func (m *mapped) makeOf(count int, table []byte) error {
	space, err := namespace()
	if err != nil {
		return err
	}
	m.name = mappedName(space, os.Getpid(), mappedCount.Add(1))
	dev, err := createMapped(m.control, m.name)
	if err != nil {
		return err
	}
	m.path, m.dev = fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	err = loadMapped(m.control, m.name, count, table)
	if err == nil {
		m.file, err = os.OpenFile(m.path, os.O_RDWR, 0)
	}
	return errors.Join(err, removeMapped(m.control, m.name))
}

func (m *mapped) Node() string   { return m.path }
func (m *mapped) Number() string { return m.dev }

// Detach ends the device, and then those under it.
func (m *mapped) Detach() (err error) {
	if m.file != nil {
		err = errors.Join(m.file.Sync(), m.unequal(), m.file.Close(), m.awaitEnd())
	}
	err = errors.Join(err, m.control.Close())
	for _, d := range m.under {
		err = errors.Join(err, d.Detach())
	}
	return err
}

// unequal is the error of a mirror that could not write to all of its devices: it
// goes on with the others, and tells only who asks.
func (m *mapped) unequal() error {
	if !m.copies {
		return nil
	}
	status, err := statusMapped(m.control, m.name)
	if err == nil && slices.ContainsFunc(status, failedMirror) {
		err = fmt.Errorf("%s: not all of its members could be written: %q", m.path, status)
	}
	return err
}

// failedMirror tells from the status of a mirror whether one of its devices has
// failed: behind the devices are the regions in step of all, and for each device a
// letter, A for one that is alive.
//
// Source: Linux drivers/md/dm-raid1.c, mirror_status.
func failedMirror(status string) bool {
	f := strings.Fields(status)
	i := slices.IndexFunc(f, func(word string) bool { return strings.Contains(word, "/") })
	return i < 0 || len(f) <= i+2 || strings.Trim(f[i+2], "A") != ""
}

// awaitEnd waits until the kernel has removed the device.
func (m *mapped) awaitEnd() error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		there, err := isMapped(m.control, m.name)
		if !there || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s (%s) is still there after %v", m.path, m.name, patience)
}

// sweepMapped removes the devices of processes that are gone: one killed at the
// moment between making a device and telling that it is to end with its user. One
// that is used after all, by a file system that is still being unmounted, ends with
// its user. A process of the same ID keeps it until the next sweep.
func sweepMapped(control *os.File) error {
	names, err := listMapped(control)
	if err != nil {
		return err
	}
	space, err := namespace()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if isLeft(name, space) {
			errs = append(errs, removeMapped(control, name))
		}
	}
	return errors.Join(errs...)
}

// isLeft tells whether a device's owner is gone.
func isLeft(name string, namespace uint64) bool {
	owner := mappedNames.FindStringSubmatch(name)
	if owner == nil || owner[1] != strconv.FormatUint(namespace, 10) {
		return false
	}
	pid, err := strconv.Atoi(owner[2])
	return err == nil && pid > 0 && (errors.Is(unix.Kill(pid, 0), unix.ESRCH) || hasEnded(pid))
}

// hasEnded tells of a process that has ended and keeps its ID, since nobody asks how
// it ended: not every container has an init that does.
//
// Source: proc_pid_stat(5), state.
func hasEnded(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := strings.TrimSpace(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
