package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/proc"
)

// Layer is one overlay and the disk that it stands on, which is only read.
type Layer struct {
	Overlay string // a qcow2 file made by CreateOverlay
	Backing Export // none for an overlay that stands on nothing
}

// CreateOverlay makes an empty overlay of size bytes. It stores no backing
// file: what it stands on is given each time it is opened, since a source's
// socket does not outlive its server.
func CreateOverlay(ctx context.Context, path string, size int64) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	_, err := proc.Run(ctx, "qemu-img", "create", "-q", "-f", QCOW2, "-o", "compat=1.1,lazy_refcounts=off", "--", path, fmt.Sprint(size))
	return err
}

// Storage is the one qemu-storage-daemon that owns a migration's overlays and
// serves them to both engines and to QEMU: as NBD exports, and as raw files
// through FUSE. Close before anything else opens an overlay.
type Storage struct {
	layers []Layer
	dir    string
	server *proc.Server
	qmp    *qmp.Client
	offer  map[int]string   // how each disk is offered now: exportNBD, exportFUSE
	offers []func() error   // end what is served to the daemon
	served map[int]*Content // the disks beneath that are
	near   map[int]*Near    // the remote ones
}

func storageArgs(dir string, overlays, backings []blockdev) []string {
	args := []string{
		"--chardev", "socket,id=qmp,path=" + strings.ReplaceAll(filepath.Join(dir, "qmp.sock"), ",", ",,") + ",server=on,wait=off",
		"--monitor", "chardev=qmp",
	}
	for i, overlay := range overlays {
		if backings[i] != nil {
			backings[i]["node-name"] = node("source", i)
			overlay["backing"] = node("source", i)
			args = append(args, "--blockdev", backings[i].String())
		}
		args = append(args, "--blockdev", overlay.String())
	}
	return append(args, nbdServer(dir)...) // last: when it answers, all that is before it is there
}

// overlayNode is how an overlay is opened.
func overlayNode(i int, path string) blockdev {
	return blockdev{"driver": "qcow2", "node-name": node("overlay", i), "discard": "unmap", "detect-zeroes": "unmap",
		"file": blockdev{"driver": "file", "filename": path, "discard": "unmap"}}
}

// backing is how the disk beneath overlay i is opened: as the file that it is, or from
// a server, which is ours if it has none; nil if there is no such disk. QEMU reads no
// VMDK: what a stranger's tables say was checked here, and is read here.
func (s *Storage) backing(i int, l Layer) (blockdev, error) {
	e := l.Backing
	if e.Chain != nil {
		if plain := e.Chain.plain(); plain != nil {
			return plain, nil
		}
		content, err := e.Chain.Read()
		if err != nil {
			return nil, err
		}
		content.Keep(filepath.Dir(l.Overlay))
		e = Export{Socket: filepath.Join(s.dir, node("source", i)), Name: "disk"}
		server, err := nbd.Offer(e.Socket, e.Name, content)
		if err != nil {
			return nil, errors.Join(err, content.Close())
		}
		s.offers = append(s.offers, server.Close, content.Close)
		s.served[i] = content
	}
	if e.Remote != nil {
		var err error
		if e, err = s.offerRemote(i, l); err != nil {
			return nil, err
		}
	}
	if e.Socket == "" {
		return nil, nil
	}
	return blockdev{"driver": "nbd", "read-only": true, "server": blockdev{"type": "unix", "path": e.Socket}, "export": e.Name}, nil
}

func node(what string, i int) string { return fmt.Sprintf("%s%d", what, i) }

// OpenStorage starts the server of the layers' overlays.
func OpenStorage(ctx context.Context, layers []Layer) (*Storage, error) {
	dir, err := proc.PrivateDir()
	if err != nil {
		return nil, err
	}
	s := &Storage{layers: layers, dir: dir, offer: map[int]string{}, served: map[int]*Content{}, near: map[int]*Near{}}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *Storage) start(ctx context.Context) (err error) {
	var overlays, backings []blockdev
	for i, l := range s.layers {
		b, err := s.backing(i, l)
		if err != nil {
			return err
		}
		overlays, backings = append(overlays, overlayNode(i, l.Overlay)), append(backings, b)
	}
	s.server, err = startUnlocked(ctx, proc.Service{
		Command:       storageDaemon(storageArgs(s.dir, overlays, backings)),
		Socket:        filepath.Join(s.dir, nbdSocket),
		PrivateMounts: os.Geteuid() == 0, // a FUSE mount then ends with its daemon
	})
	if err != nil {
		return err
	}
	s.qmp, err = qmp.Dial(ctx, filepath.Join(s.dir, "qmp.sock"))
	return err
}

// Beneath is the disk beneath overlay i, to be read while the storage is open: with
// what the storage has kept of it.
func (s *Storage) Beneath(i int) Export {
	e := s.layers[i].Backing
	if content := s.served[i]; content != nil {
		e.Content = content.Once()
	}
	if near := s.near[i]; near != nil {
		e.Remote = near.Once()
	}
	return e
}

// Disks is how many disks the storage serves.
func (s *Storage) Disks() int { return len(s.layers) }

// Ways in which a disk is offered, by QEMU's names.
const (
	exportNBD  = "nbd"
	exportFUSE = "fuse"
)

// Export offers disk i as an NBD export that can be written, and ends its raw
// file: QEMU offers a disk in one way at a time.
func (s *Storage) Export(ctx context.Context, i int) (Export, error) {
	err := s.switchTo(ctx, i, exportNBD, map[string]any{"name": node("disk", i), "allocation-depth": true})
	return Export{Socket: filepath.Join(s.dir, nbdSocket), Name: node("disk", i)}, err
}

// Raw offers disk i as a raw file, ends its NBD export, and returns the file's
// name. The file is reached through the daemon's own mounts, which nobody else
// sees.
func (s *Storage) Raw(ctx context.Context, i int) (string, error) {
	file := filepath.Join(s.dir, node("raw", i))
	if s.offer[i] != exportFUSE {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return "", err
		}
	}
	err := s.switchTo(ctx, i, exportFUSE, map[string]any{"mountpoint": file})
	return fmt.Sprintf("/proc/%d/root%s", s.server.Pid(), file), err
}

// switchTo offers disk i in one way instead of another. The old way must have
// no user left.
func (s *Storage) switchTo(ctx context.Context, i int, way string, args map[string]any) error {
	if s.offer[i] == way {
		return nil
	}
	if old := s.offer[i]; old != "" {
		if err := s.withdraw(ctx, node(old, i)); err != nil {
			return fmt.Errorf("disk %d: end its %s export: %w", i, old, err)
		}
		delete(s.offer, i)
	}
	args["type"], args["id"], args["node-name"], args["writable"] = way, node(way, i), node("overlay", i), true
	if err := s.qmp.Execute(ctx, "block-export-add", args, nil); err != nil {
		return fmt.Errorf("disk %d: %w", i, err)
	}
	s.offer[i] = way
	return nil
}

// withdraw ends an export and waits until it is gone.
func (s *Storage) withdraw(ctx context.Context, id string) error {
	if err := s.qmp.Execute(ctx, "block-export-del", map[string]any{"id": id}, nil); err != nil {
		return err
	}
	for {
		select {
		case e, ok := <-s.qmp.Events():
			if !ok {
				return s.qmp.Err()
			}
			if e.Name == "BLOCK_EXPORT_DELETED" && strings.Contains(string(e.Data), `"`+id+`"`) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the daemon, which writes every overlay through, and checks the
// overlays' structure. An overlay is whole only if Close returns nil.
func (s *Storage) Close(ctx context.Context) error {
	failed := []error{s.server.Err(), s.release()}
	for _, l := range s.layers {
		failed = append(failed, Check(ctx, l.Overlay))
	}
	return errors.Join(failed...)
}

func (s *Storage) release() error {
	var failed []error
	if s.qmp != nil {
		failed = append(failed, s.qmp.Close())
	}
	if s.server != nil {
		failed = append(failed, s.server.Stop())
	}
	for _, end := range s.offers {
		failed = append(failed, end())
	}
	return errors.Join(append(failed, os.RemoveAll(s.dir))...)
}

// Commit writes an overlay's changes into the disk that it was made over. It
// can be run again after it was interrupted. Nothing may serve either meanwhile.
func Commit(ctx context.Context, overlay, base, format string) error {
	base, err := filepath.Abs(base) // QEMU takes it as relative to the overlay
	if err != nil {
		return err
	}
	if _, err := proc.Run(ctx, "qemu-img", "rebase", "-u", "-f", QCOW2, "-F", format, "-b", base, "--", overlay); err != nil {
		return err
	}
	_, err = proc.Run(ctx, "qemu-img", "commit", "-q", "-d", "-f", QCOW2, "--", overlay)
	return err
}
