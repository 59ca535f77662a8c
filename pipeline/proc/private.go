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

// PrivateDir makes a 0700 folder for sockets and other short-lived files, with
// a name short enough for a Unix socket's 107 bytes. The caller removes it;
// what an agent that was killed left behind is removed here.
func PrivateDir() (string, error) {
	if err := sweep(os.TempDir()); err != nil {
		return "", err
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", privatePrefix, os.Getpid()))
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
