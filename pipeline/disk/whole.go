package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// ErrTruncated is a disk that lacks data which its tables name: a copy that was
// interrupted. QEMU would read zeros in their place and not tell.
var ErrTruncated = errors.New("disk is cut short; copy it from the source again, whole")

// SelfContained refuses with ErrChain a VMDK that would make QEMU open a file
// outside the descriptor's folder, or that is a snapshot of another disk. It
// reads the descriptor alone, which QEMU need not understand.
func SelfContained(path, format string) error {
	if format != VMDK {
		return nil
	}
	return checkDescriptor(path)
}

// What qemu-img check says of data behind the end of a file.
//
// Source: QEMU, block/vmdk.c, vmdk_check; block/qcow2-refcount.c, qcow2_inc_refcounts_imrt.
var afterEnd = []string{"points after EOF", "exceeding the end of the file"}

// Exit statuses of qemu-img check that say nothing of the data themselves: a
// refcount that is wrong matters to those who write, and flat disks have none.
//
// Source: qemu-img(1), check.
const (
	checkCorrupt     = 2
	checkUnsupported = 63
)

// whole refuses a disk with ErrTruncated. It reads metadata alone.
func whole(ctx context.Context, path, format string) error {
	switch format {
	case Raw:
		return nil
	case VMDK:
		if err := longEnough(path); err != nil {
			return err
		}
	}
	_, err := proc.Run(ctx, "qemu-img", "check", "-q", "-U", "-f", format, "--", path)
	failure, ok := errors.AsType[*proc.Error](err)
	if !ok {
		return err
	}
	for _, words := range afterEnd {
		if strings.Contains(failure.Stderr, words) {
			return fmt.Errorf("%s: %w", path, ErrTruncated)
		}
	}
	switch failure.Exit {
	case checkCorrupt, leaked, checkUnsupported:
		return nil
	}
	return err
}

// longEnough compares the flat extents' files with what the descriptor says of
// them. VMware's extents begin at their file's first byte.
func longEnough(path string) error {
	d, err := ReadDescriptor(path)
	if err != nil {
		return err
	}
	for _, e := range d.Extents {
		if e.Kind != "FLAT" && e.Kind != "VMFS" {
			continue
		}
		info, err := os.Stat(filepath.Join(filepath.Dir(path), e.File))
		if err != nil {
			return err
		}
		sectors, err := strconv.ParseUint(e.Sectors, 10, 48)
		if err != nil {
			return fmt.Errorf("%s: %w: extent %q of %q sectors", path, ErrNotADisk, e.File, e.Sectors)
		}
		if want := int64(sectors) * 512; info.Size() < want {
			return fmt.Errorf("%s: %w: %s has %d bytes of %d", path, ErrTruncated, e.File, info.Size(), want)
		}
	}
	return nil
}
