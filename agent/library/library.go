// Package library keeps what migrations can use and nobody may ship with an appliance:
// VMware's VDDK, with which nbdkit reads disks of vSphere, and the drivers of
// virtio-win, which Windows guests are given. An administrator uploads them.
//
// What is uploaded is checked and unpacked, and never run here. Each lies in a folder of
// its own version, and a link with its name leads to the one in use: that is replaced in
// one step, and the one before is kept until then.
//
//	libraries/
//	  vddk -> vddk-8.0.3-1a2b3c4d5e6f
//	  vddk-8.0.3-1a2b3c4d5e6f/library.json
//	  vddk-8.0.3-1a2b3c4d5e6f/vmware-vix-disklib-distrib/lib64/libvixDiskLib.so.8.0.3
//	  virtio-win -> virtio-win-0.1.285-6f5e4d3c2b1a
//	  virtio-win-0.1.285-6f5e4d3c2b1a/virtio-win.iso
package library

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/upload"
	"hyper2kvm/pipeline/durable"
)

// incoming is the folder that libraries are uploaded into.
const incoming = "incoming"

// about is the file that tells of a library.
const about = "library.json"

// ErrName is a library that there is not.
var ErrName = errors.New("there is no such library")

// kinds are what is kept: by a name, how what was uploaded is checked and put into a
// folder. It tells the version, and what is in it for people.
var kinds = []struct {
	name string
	put  func(from *os.File, into *os.Root) (version string, holds []string, err error)
}{
	{"vddk", putVDDK},
	{"virtio-win", putVirtioWin},
}

// Shelf is where libraries are kept.
type Shelf struct {
	folder string
	now    func() time.Time
	mu     sync.Mutex // of what is put or removed
}

// Open opens the shelf in a folder, which is made if it is not there. What is left of
// one that was put there when the appliance was killed is removed.
func Open(folder string, now func() time.Time) (*Shelf, error) {
	if err := os.MkdirAll(filepath.Join(folder, incoming), 0o700); err != nil {
		return nil, err
	}
	s := &Shelf{folder: folder, now: now}
	return s, s.tidy()
}

// Where opens the folder that a library is uploaded into.
func (s *Shelf) Where(name string) (*os.Root, string, error) {
	if err := known(name); err != nil {
		return nil, "", err
	}
	root, err := os.OpenRoot(filepath.Join(s.folder, incoming))
	return root, name, err
}

func known(name string) error {
	for _, k := range kinds {
		if k.name == name {
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrName, name)
}

// List are the libraries that are there.
func (s *Shelf) List() ([]model.Library, error) {
	list := []model.Library{}
	for _, k := range kinds {
		text, err := os.ReadFile(filepath.Join(s.folder, k.name, about))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var v model.Library
		if err == nil {
			err = json.Unmarshal(text, &v)
		}
		if err != nil {
			return nil, fmt.Errorf("library %s: %w", k.name, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// VDDK is the folder that nbdkit takes VMware's library from, by the link that leads to
// the one in use; ErrName if none was uploaded.
func (s *Shelf) VDDK() (string, error) {
	folder := filepath.Join(s.folder, "vddk", distrib)
	if _, err := os.Stat(folder); err != nil {
		return "", fmt.Errorf("%w: no vddk was uploaded", ErrName)
	}
	return folder, nil
}

// Accept takes a library that was uploaded as a whole, if it is one.
func (s *Shelf) Accept(name, by string, added *model.Library) upload.Accept {
	return func(folder *os.Root, part string) (err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		f, err := folder.Open(part)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if *added, err = s.put(name, by, f); err != nil {
			return err
		}
		return folder.Remove(part)
	}
}

// put checks a library, unpacks it into a folder of its own, and has the link lead there.
func (s *Shelf) put(name, by string, f *os.File) (v model.Library, err error) {
	work, err := os.MkdirTemp(s.folder, "new-*")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if v, err = s.unpack(name, f, work); err != nil {
		return v, err
	}
	v.By, v.Added = by, s.now().UTC()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return v, err
	}
	if err := os.WriteFile(filepath.Join(work, about), text, 0o600); err != nil {
		return v, err
	}
	own := name + "-" + v.Version + "-" + v.Sha256[:12]
	if _, err := os.Stat(filepath.Join(s.folder, own, about)); err == nil { // the same one once more, which may be in use
		return v, s.lead(name, own)
	}
	if err := durable.SyncAll(work); err != nil {
		return v, err
	}
	if err := durable.Rename(work, filepath.Join(s.folder, own)); err != nil {
		return v, err
	}
	if err := s.lead(name, own); err != nil {
		return v, err
	}
	return v, s.tidy()
}

func (s *Shelf) unpack(name string, f *os.File, work string) (v model.Library, err error) {
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return v, err
	}
	v = model.Library{Name: model.LibraryName(name), Size: size, Sha256: hex.EncodeToString(hash.Sum(nil))}
	root, err := os.OpenRoot(work)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, k := range kinds {
		if k.name == name {
			v.Version, v.Holds, err = k.put(f, root)
		}
	}
	return v, err
}

// lead has a library's link lead to a folder, in one step.
func (s *Shelf) lead(name, to string) error {
	link := filepath.Join(s.folder, name)
	if err := os.RemoveAll(link + ".new"); err != nil {
		return err
	}
	if err := os.Symlink(to, link+".new"); err != nil {
		return err
	}
	return durable.Rename(link+".new", link)
}

// Remove takes a library away; ErrName if it is not there.
func (s *Shelf) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := known(name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.folder, name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the library %s: %w", name, fs.ErrNotExist)
	} else if err != nil {
		return err
	}
	return s.tidy()
}

// tidy removes every folder that no link leads to.
func (s *Shelf) tidy() error {
	list, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	used := map[string]bool{incoming: true}
	for _, k := range kinds {
		used[k.name] = true
		if to, err := os.Readlink(filepath.Join(s.folder, k.name)); err == nil {
			used[to] = true
		}
	}
	for _, e := range list {
		if !used[e.Name()] && (e.IsDir() || strings.HasSuffix(e.Name(), ".new")) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.folder, e.Name())))
		}
	}
	return err
}

// refused is a library that is not what it is taken for.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{upload.ErrRefused}, args...)...)
}
