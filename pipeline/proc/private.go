package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// privatePrefix begins the names of the agent's private folders; the process
// ID that follows tells whether a folder's owner still lives.
const privatePrefix = "h2k-"

// A Unix socket's path has 107 bytes and a zero; ours keep some for a name.
// Source: unix(7), sun_path.
const (
	socketPath = 107
	socketName = len("/monitor.sock")
)

// PrivateDir makes a 0700 folder for sockets and other short-lived files, with
// a name short enough for a Unix socket's 107 bytes. The caller removes it;
// what an agent that was killed left behind is removed here.
func PrivateDir() (string, error) {
	if err := sweep(os.TempDir()); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", privatePrefix, os.Getpid()))
	if err != nil || len(dir) <= socketPath-socketName {
		return dir, err
	}
	err = fmt.Errorf("%s is too long a name for the folder of a Unix socket: set TMPDIR to a shorter one", dir)
	return "", errors.Join(err, os.Remove(dir))
}

// sweep removes the private folders of processes that are gone. Another user's
// folders are not ours to touch.
func sweep(tmp string) error {
	left, err := filepath.Glob(filepath.Join(tmp, privatePrefix+"*-*"))
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), privatePrefix), "-")
		pid, err := strconv.Atoi(digits)
		if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		failed = append(failed, os.RemoveAll(dir))
	}
	return errors.Join(failed...)
}
