// Package backup writes what an appliance keeps into one archive, and makes another
// appliance of it.
//
// An archive is a tar file:
//
//	backup.json           the format's version, whose it is and when it was made
//	streams/NAME.json     a stream's configuration and state
//	streams/NAME          a stream, as the server of the engine hands it out
//	settings.yaml         the settings, for people: they are not restored
//	keys.json             the private files, encrypted with a passphrase; only if one was given
//	manifest.json         the size and SHA-256 of each of these
//
// It is not encrypted as a whole: secrets in it are sealed, with keys that are not, and
// passwords and tokens are hashes. So an archive opens nothing, and does not need a
// passphrase that may be lost when it is needed. The keys are in it only where somebody
// gives a passphrase, and only encrypted with that.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/seal"
)

// format is the version of the archives that this program writes, and reads.
const format = 1

// Names in an archive.
const (
	aboutName    = "backup.json"
	settingsName = "settings.yaml"
	keysName     = "keys.json"
	manifestName = "manifest.json"
	streamFolder = "streams/"
)

// About is whose backup an archive is.
type About struct {
	Format    int       `json:"format"`
	Version   string    `json:"version"`   // of the program
	Appliance string    `json:"appliance"` // its name
	ID        string    `json:"id"`        // by which others know it
	Made      time.Time `json:"made"`
}

// file is what the manifest tells of one.
type file struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// stream is what stands beside a stream's content.
type stream struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// ErrBusy is a second backup at a time.
var ErrBusy = errors.New("another backup is being made")

// Source makes backups of an appliance that runs.
type Source struct {
	Engine   *engine.Engine
	State    string // folder
	About    About  // without Made
	Settings string
	Now      func() time.Time

	mu sync.Mutex
}

// Archive is a backup that was made and is to be written. Close removes it.
type Archive struct {
	source  *Source
	folder  string
	about   About
	streams []engine.Snapshot
	keys    []byte // nil without
}

// Make makes a backup, beside the state. With a passphrase the private files are in it.
func (s *Source) Make(ctx context.Context, passphrase seal.Secret) (*Archive, error) {
	if !s.mu.TryLock() {
		return nil, ErrBusy
	}
	a := &Archive{source: s, folder: filepath.Join(s.State, "backup"), about: s.About}
	a.about.Format, a.about.Made = format, s.Now().UTC()
	if err := a.make(ctx, passphrase); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Archive) make(ctx context.Context, passphrase seal.Secret) (err error) {
	if len(passphrase) > 0 {
		if a.keys, err = sealKeys(a.source.State, passphrase); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(a.folder); err != nil { // what is left of one that was killed
		return err
	}
	if err := os.Mkdir(a.folder, 0o700); err != nil {
		return err
	}
	a.streams, err = a.source.Engine.Snapshots(ctx, a.folder)
	return err
}

// Close removes what was made.
func (a *Archive) Close() error {
	defer a.source.mu.Unlock()
	return os.RemoveAll(a.folder)
}

// Name is what to call the archive.
func (a *Archive) Name() string {
	return "hyper2kvm-" + a.about.Appliance + "-" + a.about.Made.Format("20060102T150405Z") + ".backup.tar"
}

// Send writes the archive.
func (a *Archive) Send(w io.Writer) error {
	out := &writer{tar: tar.NewWriter(w), at: a.about.Made, manifest: map[string]file{}}
	if err := a.write(out); err != nil {
		return err
	}
	return out.tar.Close()
}

func (a *Archive) write(out *writer) error {
	if err := out.json(aboutName, a.about); err != nil {
		return err
	}
	if err := out.text(settingsName, []byte(a.source.Settings)); err != nil {
		return err
	}
	for _, s := range a.streams {
		if err := out.json(streamFolder+s.Stream+".json", stream{s.Config, s.State}); err != nil {
			return err
		}
		if err := out.file(streamFolder+s.Stream, s.Path); err != nil {
			return err
		}
	}
	if a.keys != nil {
		if err := out.text(keysName, a.keys); err != nil {
			return err
		}
	}
	return out.json(manifestName, out.manifest)
}

// writer writes an archive's files, and notes what they are.
type writer struct {
	tar      *tar.Writer
	at       time.Time
	manifest map[string]file
}

func (w *writer) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return w.text(name, append(text, '\n'))
}

func (w *writer) text(name string, content []byte) error {
	if err := w.head(name, int64(len(content))); err != nil {
		return err
	}
	n, err := w.tar.Write(content)
	sum := sha256.Sum256(content)
	w.note(name, int64(n), sum[:])
	return err
}

func (w *writer) file(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.head(name, info.Size()); err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w.tar, hash), f)
	w.note(name, n, hash.Sum(nil))
	return err
}

func (w *writer) head(name string, size int64) error {
	err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.at, Format: tar.FormatPAX})
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

func (w *writer) note(name string, size int64, sum []byte) {
	w.manifest[name] = file{size, hex.EncodeToString(sum)}
}
