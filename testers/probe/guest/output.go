package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// maxOutput bounds what is kept of a program's output in bytes.
	maxOutput = 128 << 10
	// patience is how long a program may take; an emulated guest is slow.
	patience = 30 * time.Second
)

var folders = []string{"/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"}

// output runs one of the guest's own programs and returns what it printed,
// even when it failed. It stands for pipeline/proc, whose rules and programs
// are the appliance's, and keeps the probe small.
func output(name string, args ...string) (string, error) {
	path, err := look(name)
	if err != nil {
		return "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", errors.Join(err, r.Close(), w.Close())
	}
	// systemctl starts a pager and colours otherwise.
	env := append(os.Environ(), "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "LC_ALL=C")
	p, err := os.StartProcess(path, append([]string{name}, args...), &os.ProcAttr{Env: env, Files: []*os.File{null, w, w}})
	err = errors.Join(err, w.Close(), null.Close())
	if err != nil {
		return "", errors.Join(err, r.Close())
	}
	timer := time.AfterFunc(patience, func() { _ = p.Kill() }) // it may have ended
	defer timer.Stop()
	out, readErr := io.ReadAll(io.LimitReader(r, maxOutput))
	closeErr := r.Close() // a program that says more is ended by it
	state, err := p.Wait()
	if err := errors.Join(readErr, closeErr, err); err != nil {
		return string(out), fmt.Errorf("%s: %w", name, err)
	}
	if !state.Success() {
		return string(out), fmt.Errorf("%s: %v", name, state)
	}
	return string(out), nil
}

func look(name string) (string, error) {
	for _, folder := range folders {
		if info, err := os.Stat(folder + name); err == nil && info.Mode()&0o111 != 0 {
			return folder + name, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, os.ErrNotExist)
}
