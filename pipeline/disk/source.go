package disk

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// Export is a disk that an NBD server offers on a Unix socket, or that is read from
// its files with no server.
type Export struct {
	Socket string // path of the socket; "" if there is no server
	Name   string // of the export
	// Shared is the socket on which one client gets the same disk in shared
	// memory (vhost-user-blk); "" if none does.
	Shared string
	// Chain is a disk in files that this program reads itself; nil for others.
	Chain *Chain
	// Remote is a disk that this program reads over a network; nil for others.
	Remote Remote
	// Content is the same disk if somebody has opened it already, and keeps it open.
	Content *Content
}

// URI names what a server offers to other programs.
func (e Export) URI() string {
	query := strings.ReplaceAll(url.QueryEscape(e.Socket), "+", "%20") // QEMU takes a plus as it is
	return "nbd+unix:///" + url.PathEscape(e.Name) + "?socket=" + query
}

// Source is a disk opened for reading alone.
type Source struct {
	Export
	Size   int64        // bytes
	server *proc.Server // nil if there is none
	dir    string
}

// sourceArgs serves one disk. The node names every file, driver and backing disk,
// so that a disk's own header cannot make QEMU open another file.
func sourceArgs(n blockdev, dir string) []string {
	n = maps.Clone(n)
	n["node-name"] = "disk"
	return append([]string{"--blockdev", n.String()}, servingArgs("disk", dir, false)...)
}

// servingArgs serves a node in two ways: over NBD, to any number of clients, and
// in shared memory, to one that copies it.
func servingArgs(node, dir string, writable bool) []string {
	return append(nbdServer(dir),
		"--export", blockdev{"type": "nbd", "id": "nbd", "node-name": node, "name": "disk", "writable": writable}.String(),
		"--export", blockdev{"type": "vhost-user-blk", "id": "vhost", "node-name": node, "writable": writable,
			"addr": blockdev{"type": "unix", "path": filepath.Join(dir, vhostSocket)}}.String())
}

// storageDaemon is QEMU's daemon. It takes a fresh buffer for each request, which the C
// library maps and unmaps again above 128 KiB: on a machine with several processors that
// costs more than the copy into it. Up to 4 MiB it shall keep them.
//
// Source: glibc, manual, "Memory Allocation Tunables".
func storageDaemon(args []string) proc.Command {
	return proc.Command{Name: "qemu-storage-daemon", Args: args, Env: []string{"GLIBC_TUNABLES=glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=33554432"}}
}

// nbdServer listens in a folder for any number of clients.
func nbdServer(dir string) []string {
	return []string{"--nbd-server", blockdev{"addr": blockdev{"type": "unix", "path": filepath.Join(dir, nbdSocket)}, "max-connections": 0}.String()}
}

// Sockets in a server's folder.
const (
	nbdSocket   = "nbd.sock"
	vhostSocket = "vhost.sock"
)

// servedAt is the export of what servingArgs serve.
func servedAt(dir string) Export {
	return Export{Socket: filepath.Join(dir, nbdSocket), Name: "disk", Shared: filepath.Join(dir, vhostSocket)}
}

// fileNode is a file or a block device that is read.
func fileNode(path string) blockdev {
	driver := "file"
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeDevice != 0 {
		driver = "host_device"
	}
	return blockdev{"driver": driver, "filename": path, "read-only": true}
}

// OpenSource opens a disk read-only until Close. Disks that stand on other
// files are refused with ErrChain, except a VMDK's in its own folder.
func OpenSource(ctx context.Context, path, format string) (*Source, error) {
	c, err := ReadChain(ctx, path, format, nil)
	if err != nil {
		return nil, err
	}
	return c.Open(ctx)
}

// Open opens the disk read-only until Close, if every file of it is whole. One that
// is not legible is served.
func (c *Chain) Open(ctx context.Context) (*Source, error) {
	if err := manyFiles(c.Path, len(c.Files())); err != nil {
		return nil, err
	}
	if err := c.whole(ctx); err != nil {
		return nil, err
	}
	if c.Legible() {
		return &Source{Export: Export{Chain: c}, Size: c.Size}, nil
	}
	return c.serve(ctx)
}

func (c *Chain) whole(ctx context.Context) error {
	if c.Format == QCOW2 {
		return wholeQCOW2(ctx, c.Path)
	}
	for _, l := range slices.Backward(c.links) {
		if err := l.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a server of a disk in a format that QEMU reads, which was found to be
// whole.
func (c *Chain) serve(ctx context.Context) (*Source, error) {
	dir, err := proc.PrivateDir()
	if err != nil {
		return nil, err
	}
	n := blockdev{"driver": c.Format, "read-only": true, "file": fileNode(c.Path)}
	if c.Format == QCOW2 {
		n["backing"] = nil
	}
	return serveNode(ctx, n, c.Size, dir)
}

// serveNode starts a server of a node of QEMU's, with a folder of its own.
func serveNode(ctx context.Context, n blockdev, size int64, dir string) (*Source, error) {
	e := servedAt(dir)
	server, err := proc.Start(ctx, proc.Service{Command: storageDaemon(sourceArgs(n, dir)), Socket: e.Socket})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Source{Export: e, Size: size, server: server, dir: dir}, nil
}

// rawNode is a file or a device that holds a disk's bytes as they are.
func rawNode(path string) blockdev {
	return blockdev{"driver": Raw, "read-only": true, "file": fileNode(path)}
}

// plain is a disk whose bytes all lie in one file as they are: a raw one, or a flat VMDK of
// one piece; nil if it is none.
func (c *Chain) plain() blockdev {
	switch {
	case c.Format == Raw:
		return rawNode(c.Path)
	case len(c.links) != 1 || len(c.links[0].parts) != 1:
		return nil
	}
	p := c.links[0].parts[0]
	if p.sparse != nil || p.path == "" {
		return nil
	}
	n := rawNode(p.path)
	n["offset"], n["size"] = p.Offset*sectorSize, p.Sectors*sectorSize
	return n
}

// Close ends the server, if there is one, and lets go of a remote disk.
func (s *Source) Close() error {
	if s.Remote != nil {
		return s.Remote.Close()
	}
	if s.server == nil {
		return nil
	}
	return errors.Join(s.server.Stop(), os.RemoveAll(s.dir))
}
