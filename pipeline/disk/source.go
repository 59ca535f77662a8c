package disk

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// ErrChain is a disk that stands on other files.
var ErrChain = errors.New("disk depends on other files")

// Export is a disk that an NBD server offers on a Unix socket.
type Export struct {
	Socket string // path of the socket
	Name   string // of the export
}

// URI names the export to other programs.
func (e Export) URI() string {
	query := strings.ReplaceAll(url.QueryEscape(e.Socket), "+", "%20") // QEMU takes a plus as it is
	return "nbd+unix:///" + url.PathEscape(e.Name) + "?socket=" + query
}

// Source is a disk opened for reading alone.
type Source struct {
	Export
	Size   int64 // bytes
	server *proc.Server
	dir    string
}

// sourceArgs serves one disk. --persistent and --shared=0 let any number of
// clients come and go, and the JSON name pins the driver and forbids a backing
// file, so that the disk's own header cannot make QEMU open another file.
func sourceArgs(path, format, socket string) []string {
	node := blockdev{"driver": format, "read-only": true, "file": blockdev{"driver": protocol(path), "filename": path, "read-only": true}}
	if format != Raw {
		node["backing"] = nil
	}
	return []string{"--read-only", "--persistent", "--shared=0", "--cache=writeback", "--discard=ignore", "--socket=" + socket, "--export-name=disk", "json:" + node.String()}
}

func protocol(path string) string {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeDevice != 0 {
		return "host_device"
	}
	return "file"
}

// OpenSource serves a disk read-only until Close. Disks that stand on other
// files are refused with ErrChain, except a VMDK descriptor's own extents.
func OpenSource(ctx context.Context, path, format string) (*Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := SelfContained(path, format); err != nil {
		return nil, err
	}
	image, err := Describe(ctx, path, format)
	if err != nil {
		return nil, err
	}
	if image.Backing != "" {
		return nil, fmt.Errorf("%s: %w: its backing file is %q; flatten it first: qemu-img convert -O qcow2 %s NEW.qcow2", path, ErrChain, image.Backing, filepath.Base(path))
	}
	if format == VMDK {
		if err := checkOpened(path, image.Specific); err != nil {
			return nil, err
		}
	}
	if external(image.Specific) {
		return nil, fmt.Errorf("%s: %w: its data are in another file; flatten it first: qemu-img convert -O qcow2 %s NEW.qcow2", path, ErrChain, filepath.Base(path))
	}
	if err := whole(ctx, path, format); err != nil {
		return nil, err
	}
	dir, err := proc.PrivateDir()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "nbd.sock")
	server, err := proc.Start(ctx, proc.Service{Command: proc.Command{Name: "qemu-nbd", Args: sourceArgs(path, format, socket)}, Socket: socket})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Source{Export{socket, "disk"}, image.VirtualSize, server, dir}, nil
}

// Close stops serving the disk.
func (s *Source) Close() error { return errors.Join(s.server.Stop(), os.RemoveAll(s.dir)) }
