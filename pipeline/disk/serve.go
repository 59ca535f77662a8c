package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// Formats that are written, and read of what was written alone.
const (
	VDI  = "vdi"
	VHDX = "vhdx"
)

// ErrFormat is a format, or a property of it, that cannot be made.
var ErrFormat = errors.New("no such format of a disk")

// Shape is how a new disk is to be made, beside its size.
type Shape struct {
	Format        string `json:"format"`                  // Raw, QCOW2, VMDK, VDI or VHDX
	Compress      bool   `json:"compress,omitempty"`      // qcow2 alone
	ClusterSize   int64  `json:"cluster_size,omitempty"`  // bytes, qcow2 alone; QEMU's choice if zero
	Preallocation string `json:"preallocation,omitempty"` // off, metadata, falloc or full; off if empty
}

// preallocations are those that each format can have.
//
// Source: qemu-img(1), "Supported image file formats"; qemu-img create -o help.
var preallocations = map[string][]string{
	Raw:   {"", "off", "falloc", "full"},
	QCOW2: {"", "off", "metadata", "falloc", "full"},
	VMDK:  {"", "off"},
	VDI:   {"", "off"},
	VHDX:  {"", "off"},
}

// Check is ErrFormat for a shape that cannot be made.
func (s Shape) Check() error {
	known, ok := preallocations[s.Format]
	c := s.ClusterSize
	switch {
	case !ok:
		return fmt.Errorf("%w: %q; there are raw, qcow2, vmdk, vdi and vhdx", ErrFormat, s.Format)
	case !slices.Contains(known, s.Preallocation):
		return fmt.Errorf("%w: %s with preallocation %q; it can have %q", ErrFormat, s.Format, s.Preallocation, known[1:])
	case s.Format != QCOW2 && (s.Compress || c != 0):
		return fmt.Errorf("%w: %s has neither compression nor a cluster size, qcow2 has", ErrFormat, s.Format)
	case c != 0 && (c < 512 || c > 2<<20 || c&(c-1) != 0):
		return fmt.Errorf("%w: clusters of %d bytes; a size is a power of two from 512 to 2097152", ErrFormat, c)
	case s.Compress && s.Preallocation != "" && s.Preallocation != "off":
		return fmt.Errorf("%w: compressed clusters cannot be preallocated", ErrFormat)
	case s.Compress && c > usualCluster:
		return fmt.Errorf("%w: compressed clusters of %d bytes; they have at most %d, or each would be compressed many times", ErrFormat, c, usualCluster)
	}
	return nil
}

// usualCluster is the size of qcow2's clusters that QEMU chooses, in bytes.
const usualCluster = 64 << 10

// fits is ErrFormat for a size in bytes that a shape cannot have.
func (s Shape) fits(size int64) error {
	if c := cmp.Or(s.ClusterSize, usualCluster); s.Compress && size%c != 0 {
		return fmt.Errorf("%w: a disk of %d bytes cannot be compressed, since it does not end with a cluster of %d; convert it without compression", ErrFormat, size, c)
	}
	return nil
}

// createArgs makes a disk of size bytes in a new file.
func (s Shape) createArgs(path string, size int64) []string {
	args := []string{"create", "-q", "-f", s.Format}
	if s.Format == QCOW2 {
		args = append(args, "-o", "compat=1.1")
	}
	if s.ClusterSize != 0 {
		args = append(args, "-o", fmt.Sprintf("cluster_size=%d", s.ClusterSize))
	}
	if s.Preallocation != "" {
		args = append(args, "-o", "preallocation="+s.Preallocation)
	}
	return append(args, "--", path, fmt.Sprint(size))
}

// Create makes an empty disk of size bytes.
func Create(ctx context.Context, path string, size int64, s Shape) error {
	if err := errors.Join(s.Check(), s.fits(size)); err != nil {
		return err
	}
	if s.Format == Raw && (s.Preallocation == "" || s.Preallocation == "off") {
		return createHole(path, size)
	}
	_, err := proc.Run(ctx, "qemu-img", s.createArgs(path, size)...)
	return err
}

// createHole makes a file that is one hole, in place of any that is there.
func createHole(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Served is a disk that is written to through QEMU, by whoever knows its format.
type Served struct {
	Export
	dir    string
	server *proc.Server
	file   *os.File
}

// servedArgs serves a disk to be written. What its clients flush is handed to
// the kernel, format and all, and waits for no storage: Sync does. So what
// was flushed outlives the server and this program, as in a raw file.
func servedArgs(path string, s Shape, dir string) []string {
	format := blockdev{"driver": s.Format, "node-name": "disk",
		"file": blockdev{"driver": "file", "filename": path, "cache": blockdev{"no-flush": true}}}
	if s.Compress {
		format = blockdev{"driver": "compress", "node-name": "compress", "file": format}
	}
	return append([]string{"--blockdev", format.String()}, servingArgs(format["node-name"].(string), dir, true)...)
}

// Serve serves a disk that Create made, to be written, until Close.
func Serve(ctx context.Context, path string, s Shape) (*Served, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	dir, err := proc.PrivateDir()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	e := servedAt(dir)
	server, err := startUnlocked(ctx, proc.Service{Command: storageDaemon(servedArgs(path, s, dir)), Socket: e.Socket})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir), f.Close())
	}
	return &Served{e, dir, server, f}, nil
}

// The server of a run that was killed ends with it, but in its own time, and
// has the file locked until then.
const (
	lockWait  = 10 * time.Second
	lockPause = 100 * time.Millisecond
	// Source: QEMU, block/file-posix.c, raw_check_lock_bytes.
	locked = `Failed to get "write" lock`
)

// startUnlocked starts a server as soon as nobody else has its file locked.
func startUnlocked(ctx context.Context, s proc.Service) (*proc.Server, error) {
	for began := time.Now(); ; {
		server, err := proc.Start(ctx, s)
		if err == nil || !strings.Contains(err.Error(), locked) || time.Since(began) > lockWait {
			return server, err
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Begin is WriteOut of what was flushed.
func (s *Served) Begin() { WriteOut(s.file) }

// Sync brings what was flushed to stable storage.
func (s *Served) Sync() error { return unix.Fdatasync(int(s.file.Fd())) }

// Close ends the server, which writes all through, and brings that to stable
// storage.
func (s *Served) Close() error {
	return errors.Join(s.server.Stop(), os.RemoveAll(s.dir), s.Sync(), s.file.Close())
}
