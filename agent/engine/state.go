package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/durable"
)

// ErrBusy is a state folder that another process works in.
var ErrBusy = errors.New("another agent works with this state folder")

// lockState makes this process the only one to use the folder. The kernel lets go of
// it when the process ends, however that is.
func lockState(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s; stop it first, or give this one a folder of its own", ErrBusy, path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Identity is the name by which other appliances know the one with this state folder.
// It is made once.
func Identity(folder string) (string, error) {
	path := filepath.Join(folder, "appliance-id")
	text, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(text))) > 0 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := strings.ToLower(rand.Text()[:12])
	return id, durable.Write(path, []byte(id+"\n"))
}
