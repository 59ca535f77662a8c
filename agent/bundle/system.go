package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"hyper2kvm/pipeline/proc"
)

// machineFiles tell of the machine that this is.
var machineFiles = []string{"/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/filesystems", "/proc/modules", "/proc/pressure/memory", "/proc/pressure/io", "/sys/fs/cgroup/memory.events"}

// mostSystem is how much is read of each, bytes.
const mostSystem = 256 << 10

// system is what they say.
func system(context.Context) ([]byte, error) {
	var b strings.Builder
	for _, path := range machineFiles {
		text, err := start(path)
		if err != nil {
			text = err.Error() + "\n"
		}
		fmt.Fprintf(&b, "==> %s\n%s\n", path, text)
	}
	return []byte(b.String()), nil
}

func start(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, mostSystem))
	return string(text), errors.Join(err, f.Close())
}

// journalLines is how much of the journal is taken, and journalWithin how long it may
// take to read that.
const (
	journalLines  = "5000"
	journalWithin = 20 * time.Second
)

// journal is the end of what systemd has of this agent, where there is a journal.
func journal(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, journalWithin)
	defer cancel()
	return proc.Run(ctx, "journalctl", "--unit=hyper2kvm.service", "--lines="+journalLines, "--output=short-iso", "--no-pager", "--quiet")
}
