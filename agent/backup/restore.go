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
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/seal"
	"hyper2kvm/pipeline/durable"
)

// Errors that callers decide on.
var (
	// ErrArchive is an archive that cannot be restored.
	ErrArchive = errors.New("cannot restore this backup")
	// ErrState is a state folder that nothing can be restored into.
	ErrState = errors.New("cannot restore into this state folder")
)

// Bounds of what is read of an archive, in bytes.
const (
	mostText    = 64 << 20 // of what is no stream
	mostStream  = 16 << 30
	mostEntries = 100
)

// Restored is what was made of an archive.
type Restored struct {
	About
	Keys bool // the private files too
}

// Restore makes an appliance of an archive, in a state folder that is empty or not there.
// Without a passphrase the private files are left out: secrets do not open then, unless
// the keys that they were sealed with are put there by hand, and a new certificate is
// made. Nothing is put in place until all of it was compared with what was written.
func Restore(ctx context.Context, archive, state string, passphrase seal.Secret, log *slog.Logger) (done Restored, err error) {
	if err := empty(state); err != nil {
		return done, err
	}
	work := filepath.Join(state, "restoring")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := unpack(archive, filepath.Join(work, "archive")); err != nil {
		return done, err
	}
	if done, err = build(ctx, filepath.Join(work, "archive"), filepath.Join(work, "state"), passphrase, log); err != nil {
		return done, err
	}
	return done, place(filepath.Join(work, "state"), state)
}

func empty(state string) error {
	list, err := os.ReadDir(state)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(state, 0o700)
	}
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%w: %s is not empty: stop the agent that works with it, and give the settings another folder as state, or move this one away", ErrState, state)
	}
	return err
}

// unpack takes an archive apart, and compares all of it with its manifest.
func unpack(archive, into string) (err error) {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(into, streamFolder), 0o700); err != nil {
		return err
	}
	in := tar.NewReader(f)
	got := map[string]file{}
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return compare(into, got)
		}
		if err != nil {
			return fmt.Errorf("%w: it is no backup, or was cut short: %w", ErrArchive, err)
		}
		if _, twice := got[head.Name]; twice || len(got) == mostEntries || !known(head) {
			return fmt.Errorf("%w: %.100q has no place in it", ErrArchive, head.Name)
		}
		if got[head.Name], err = take(in, filepath.Join(into, filepath.FromSlash(head.Name))); err != nil {
			return err
		}
	}
}

// known tells whether a file has a place in an archive.
func known(head *tar.Header) bool {
	name, inStreams := strings.CutPrefix(head.Name, streamFolder)
	most := int64(mostText)
	switch head.Name {
	case aboutName, settingsName, keysName, manifestName:
	default:
		if !inStreams || name == "" || name != path.Base(name) || strings.HasPrefix(name, ".") {
			return false
		}
		if !strings.HasSuffix(name, ".json") {
			most = mostStream
		}
	}
	return head.Typeflag == tar.TypeReg && head.Size >= 0 && head.Size <= most
}

func take(in io.Reader, into string) (file, error) {
	f, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return file{}, err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it was cut short", ErrArchive)
	}
	return file{n, hex.EncodeToString(hash.Sum(nil))}, errors.Join(err, f.Close())
}

// compare holds what came out of an archive to what its manifest says.
func compare(folder string, got map[string]file) error {
	var want map[string]file
	if err := read(folder, manifestName, &want); err != nil {
		return err
	}
	delete(got, manifestName)
	for name, is := range got {
		if is != want[name] {
			return fmt.Errorf("%w: %s is damaged: it is another than the one that was written", ErrArchive, name)
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			return fmt.Errorf("%w: %s is missing", ErrArchive, name)
		}
	}
	return nil
}

func read(folder, name string, v any) error {
	text, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it is no backup, or was cut short: %s is missing", ErrArchive, name)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
	}
	return nil
}

// build makes a state folder of an archive that was taken apart.
func build(ctx context.Context, from, state string, passphrase seal.Secret, log *slog.Logger) (done Restored, err error) {
	if err := read(from, aboutName, &done.About); err != nil {
		return done, err
	}
	if done.Format != format {
		return done, fmt.Errorf("%w: it is of format %d, made by version %s, and this program reads format %d: restore it with that version", ErrArchive, done.Format, done.Version, format)
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		return done, err
	}
	if err := os.WriteFile(filepath.Join(state, "appliance-id"), []byte(done.ID+"\n"), 0o600); err != nil {
		return done, err
	}
	if done.Keys, err = putKeys(from, state, passphrase); err != nil {
		return done, err
	}
	streams, err := snapshots(from)
	if err != nil {
		return done, err
	}
	if err := engine.Restore(ctx, engine.Config{State: state, Name: done.Appliance, Log: log}, streams); err != nil {
		return done, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return done, nil
}

// snapshots are the streams of an archive.
func snapshots(from string) (list []engine.Snapshot, err error) {
	entries, err := os.ReadDir(filepath.Join(from, streamFolder))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		var s stream
		if err := read(from, streamFolder+e.Name()+".json", &s); err != nil {
			return nil, err
		}
		list = append(list, engine.Snapshot{Stream: e.Name(), Config: s.Config, State: s.State, Path: filepath.Join(from, streamFolder, e.Name())})
	}
	return list, nil
}

// putKeys puts the private files into a state folder, if a passphrase is given.
func putKeys(from, state string, passphrase seal.Secret) (bool, error) {
	if len(passphrase) == 0 {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(from, keysName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: it holds no keys: restore it without a passphrase, and put the keys that secrets were sealed with, if you have them, into the state folder as %s", ErrArchive, sealFile)
	}
	if err != nil {
		return false, err
	}
	files, err := openKeys(text, passphrase)
	if err != nil {
		return false, err
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return false, err
	}
	defer root.Close()
	for name, text := range files {
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return false, err
		}
		if err := root.WriteFile(name, text, 0o600); err != nil {
			return false, err
		}
		clear(text)
	}
	return true, nil
}

// place moves what was built into the state folder, the engine's part at last: without
// it, an agent sees an appliance that nobody has restored.
func place(built, state string) error {
	if err := durable.SyncAll(built); err != nil {
		return err
	}
	list, err := os.ReadDir(built)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == "engine" || e.Name() == "lock" {
			continue
		}
		if err := durable.Rename(filepath.Join(built, e.Name()), filepath.Join(state, e.Name())); err != nil {
			return err
		}
	}
	return durable.Rename(filepath.Join(built, "engine"), filepath.Join(state, "engine"))
}
