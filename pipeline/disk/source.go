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

// Export is a disk that an NBD server offers on a Unix socket.
type Export struct {
	Socket string // path of the socket
	Name   string // of the export
	// Shared is the socket on which one client gets the same disk in shared
	// memory (vhost-user-blk); "" if none does.
	Shared string
	// File is the file or block device that has the disk's bytes as they are, from
	// its beginning on; "" if none has.
	File string
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
	chain  *Chain
	server *proc.Server
	dir    string
	more   []*Source // of the same disk
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

// OpenSource serves a disk read-only until Close. Disks that stand on other
// files are refused with ErrChain, except a VMDK's in its own folder.
func OpenSource(ctx context.Context, path, format string) (*Source, error) {
	c, err := ReadChain(ctx, path, format, nil)
	if err != nil {
		return nil, err
	}
	return c.Open(ctx)
}

// Open serves the disk read-only until Close, if every file of it is whole.
func (c *Chain) Open(ctx context.Context) (*Source, error) {
	if err := manyFiles(c.Path, len(c.Files())); err != nil {
		return nil, err
	}
	if err := c.whole(ctx); err != nil {
		return nil, err
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

// serve starts a server of the disk, which was found to be whole.
func (c *Chain) serve(ctx context.Context) (*Source, error) {
	dir, err := proc.PrivateDir()
	if err != nil {
		return nil, err
	}
	n, err := c.node(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	e := servedAt(dir)
	server, err := proc.Start(ctx, proc.Service{Command: proc.Command{Name: "qemu-storage-daemon", Args: sourceArgs(n, dir)}, Socket: e.Socket})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	e.File = c.plain()
	return &Source{Export: e, Size: c.Size, chain: c, server: server, dir: dir}, nil
}

// mostServers is how many serve one disk at most.
const mostServers = 4

// Widen has up to so many servers in all serve the disk, where reading it is work:
// QEMU decompresses one piece after the other, whoever asks. It returns the exports
// of the further ones, and keeps them until Close.
func (s *Source) Widen(ctx context.Context, servers int) (more []Export, err error) {
	for s.chain.compressed() && len(s.more) < min(servers, mostServers)-1 {
		another, err := s.chain.serve(ctx)
		if err != nil {
			return nil, err
		}
		s.more = append(s.more, another)
	}
	for _, m := range s.more {
		more = append(more, m.Export)
	}
	return more, nil
}

// compressed tells whether the disk's data are.
func (c *Chain) compressed() bool {
	return slices.ContainsFunc(c.links, func(l link) bool {
		return slices.ContainsFunc(l.parts, func(p part) bool { return p.sparse != nil && p.sparse.compressed })
	})
}

// plain is the file that has the disk's bytes as they are, if one has.
func (c *Chain) plain() string {
	if c.Format == Raw {
		return c.Path
	}
	if len(c.links) != 1 || len(c.links[0].parts) != 1 {
		return ""
	}
	if p := c.links[0].parts[0]; p.sparse == nil && p.Offset == 0 && p.Sectors*sectorSize == c.Size {
		return p.path
	}
	return ""
}

// node is how QEMU opens the disk.
func (c *Chain) node(ctx context.Context, dir string) (blockdev, error) {
	switch c.Format {
	case Raw, VDI, VHDX:
		return blockdev{"driver": c.Format, "read-only": true, "file": fileNode(c.Path)}, nil
	case QCOW2:
		return blockdev{"driver": QCOW2, "read-only": true, "file": fileNode(c.Path), "backing": nil}, nil
	}
	var n blockdev // nil below the last disk
	for i := len(c.links) - 1; i >= 0; i-- {
		l := c.links[i]
		above, err := l.node(ctx, filepath.Join(dir, node("disk", i)))
		if err != nil {
			return nil, err
		}
		if n != nil {
			above["backing"] = n
		}
		n = above
	}
	if c.links[0].padding() > 0 {
		n = blockdev{"driver": Raw, "read-only": true, "size": c.Size, "file": n}
	}
	return n, nil
}

// Close stops serving the disk.
func (s *Source) Close() error {
	var failed error
	for _, m := range s.more {
		failed = errors.Join(failed, m.Close())
	}
	return errors.Join(failed, s.server.Stop(), os.RemoveAll(s.dir))
}
