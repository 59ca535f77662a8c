package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Devices loads what drives the devices that are there now, below a folder such as
// /sys/devices. A driver may find further devices: call it again.
func (t *Tree) Devices(folder string) error {
	var errs []error
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "modalias" {
			return nil // devices come and go meanwhile
		}
		if text, err := os.ReadFile(path); err == nil {
			errs = append(errs, t.once(strings.TrimSpace(string(text))))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// once is Match, but for a device whose like was there before.
func (t *Tree) once(modalias string) error {
	if modalias == "" || t.seen[modalias] {
		return nil
	}
	t.seen[modalias] = true
	return t.Match(modalias)
}
