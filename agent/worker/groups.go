package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Groups makes a control group for each runner, so that nothing that it starts is left
// behind. Where this process may make none, its runners have none.
type Groups struct {
	parent string // folder; "" if there are none
	prefix string
}

// OpenGroups finds where groups can be made, and ends what is left in those that this
// appliance made in an earlier life.
func OpenGroups(appliance string, log *slog.Logger) (*Groups, error) {
	g := &Groups{prefix: "job-" + appliance + "-"}
	own, err := ownGroup()
	if err != nil {
		log.Warn("runners have no control groups of their own", "err", err)
		return g, nil
	}
	g.parent = own
	left, err := filepath.Glob(filepath.Join(own, g.prefix+"*"))
	for _, folder := range left {
		err = errors.Join(err, group{path: folder}.leave())
	}
	if err != nil {
		return g, err
	}
	try, err := g.enter("probe")
	if err != nil {
		log.Warn("runners have no control groups of their own", "err", err)
		g.parent = ""
		return g, nil
	}
	return g, try.leave()
}

// ownGroup is the folder of the control group that this process is in.
//
// Source: cgroups(7), "/proc/pid/cgroup"; proc_pid_mountinfo(5).
func ownGroup() (string, error) {
	mount, err := groupMount()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, path), nil
		}
	}
	return "", errors.New("this process is in no control group of version 2")
}

// groupMount is where the control groups of version 2 are mounted.
func groupMount() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.Join(errors.New("control groups of version 2 are not mounted"), lines.Err())
}

// group is one runner's. Its zero value is none.
type group struct {
	path   string
	folder *os.File
}

func (g *Groups) enter(id string) (group, error) {
	if g.parent == "" {
		return group{}, nil
	}
	path := filepath.Join(g.parent, g.prefix+id)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return group{}, err
	}
	folder, err := os.Open(path)
	return group{path, folder}, err
}

// leave ends all that is in the group, and removes it.
func (g group) leave() (err error) {
	if g.path == "" {
		return nil
	}
	if g.folder != nil {
		err = g.folder.Close()
	}
	if killed := os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0); killed != nil && !errors.Is(killed, fs.ErrNotExist) {
		return errors.Join(err, killed)
	}
	const patience = 10 * time.Second // what sits in a read of a storage that is away ends when that answers
	for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		removed := os.Remove(g.path)
		if removed == nil || errors.Is(removed, fs.ErrNotExist) {
			return err
		}
		if time.Now().After(limit) {
			return errors.Join(err, fmt.Errorf("what a migration has started does not end: %w", removed))
		}
	}
}
