package pipeline

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// checkDevices refuses devices that disks cannot go to, before anything is done.
func (r *Run) checkDevices() error {
	for i, path := range r.Options.Devices {
		if i < 0 || i >= len(r.Machine.Disks) {
			return fmt.Errorf("disk %d is to go to %s: the machine has %d disks, counted from 0", i, path, len(r.Machine.Disks))
		}
		if err := r.fits(i); err != nil {
			return err
		}
		for j, d := range r.Machine.Disks {
			same, err := sameDevice(path, d.Path)
			if err == nil && same {
				err = fmt.Errorf("%s is disk %d of the source, which is never written", path, j)
			}
			if err != nil {
				return err
			}
		}
		for j, other := range r.Options.Devices {
			if same, err := sameDevice(path, other); err == nil && same && i != j {
				return fmt.Errorf("disks %d and %d are both to go to %s", min(i, j), max(i, j), path)
			}
		}
	}
	return nil
}

// checkFiles refuses file systems that cannot hold a disk, before it is read.
func (r *Run) checkFiles() error {
	if r.Stage("convert").State == Skipped {
		return nil
	}
	for i := range r.Machine.Disks {
		if r.Options.Devices[i] != "" {
			continue
		}
		if err := r.fits(i); err != nil {
			return err
		}
	}
	return nil
}

// fits tells whether disk i, as large as it becomes, can go to its target.
func (r *Run) fits(i int) error {
	to := r.target(i)
	to.Size, _ = r.larger(i, to.Size)
	return to.Fits()
}

// sameDevice tells whether two names are of one block device.
func sameDevice(a, b string) (bool, error) {
	x, err := os.Stat(a)
	y, failed := os.Stat(b)
	if err := errors.Join(err, failed); err != nil {
		return false, err
	}
	if x.Mode()&os.ModeDevice == 0 || y.Mode()&os.ModeDevice == 0 {
		return false, nil
	}
	return x.Sys().(*syscall.Stat_t).Rdev == y.Sys().(*syscall.Stat_t).Rdev, nil
}
