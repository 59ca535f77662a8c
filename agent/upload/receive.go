package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Receiver receives files. It may be used by many at once.
type Receiver struct {
	records records
	where   Where
	now     func() time.Time

	mu   sync.Mutex
	busy map[string]*int64 // bytes that are still to come of what is received now, by key
}

// Where opens the folder that a key's file is to be put into, and tells its name in it.
type Where func(key string) (folder *os.Root, name string, err error)

// Accept takes a file that is whole, whose name in its folder is part. What it refuses
// with ErrRefused is removed; after another error it can be asked for again.
type Accept func(folder *os.Root, part string) error

// New is a receiver that notes in a folder how far it is, which is made if it is not
// there.
func New(folder string, where Where, now func() time.Time) (*Receiver, error) {
	r := &Receiver{records: records{folder}, where: where, now: now, busy: map[string]*int64{}}
	return r, os.MkdirAll(folder, 0o700)
}

// Take receives a part, and hands the file to accept when it is whole. What is told is
// how far the upload is then, also beside an error.
func (r *Receiver) Take(ctx context.Context, key string, p Part, body io.Reader, accept Accept) (u Upload, err error) {
	if err := p.check(); err != nil {
		return u, err
	}
	done, left, err := r.hold(key)
	if err != nil {
		return u, err
	}
	defer done()
	folder, name, err := r.where(key)
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := r.room(folder, left, p.Size-p.First); err != nil {
		return u, err
	}
	w, err := r.open(folder, name+Suffix, key, p)
	if err != nil {
		return w.Upload, err
	}
	err = r.copy(ctx, w, p, body, left)
	if err = errors.Join(err, w.file.Close()); err != nil || w.Offset < w.Size {
		return w.Upload, err
	}
	return w.Upload, r.finish(folder, name+Suffix, w, accept)
}

func (p Part) check() error {
	switch {
	case p.Size < 1 || p.Size > MaxSize:
		return fmt.Errorf("%w: it has %d bytes, and 1 to %d are taken", ErrInput, p.Size, int64(MaxSize))
	case p.First < 0 || p.Length < 0 || p.First > p.Size-p.Length || p.Length == 0 && p.First < p.Size:
		return fmt.Errorf("%w: %d bytes from %d are no part of a file of %d", ErrInput, p.Length, p.First, p.Size)
	case p.Length > MaxPart:
		return fmt.Errorf("%w: a request brings %d bytes at most", ErrInput, int64(MaxPart))
	case len(p.SHA256) != 0 && len(p.SHA256) != sha256.Size:
		return fmt.Errorf("%w: a SHA-256 has %d bytes", ErrInput, sha256.Size)
	}
	return nil
}

// hold makes this request the only one to work on a key.
func (r *Receiver) hold(key string) (done func(), left *int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.busy[key] != nil:
		return nil, nil, ErrNow
	case len(r.busy) >= atOnce:
		return nil, nil, fmt.Errorf("%w: %d at once are taken", ErrMany, atOnce)
	}
	left = new(int64)
	r.busy[key] = left
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.busy, key)
	}, left, nil
}

// writing is an upload that goes on.
type writing struct {
	Upload
	file *os.File
	hash hash.Hash
}

// open goes on with an upload, or begins one.
func (r *Receiver) open(folder *os.Root, part, key string, p Part) (w *writing, err error) {
	was, err := r.records.read(key)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return &writing{}, err
	}
	if w, err = r.goOn(was, key, p, fresh); err != nil {
		return w, err
	}
	flags := os.O_RDWR
	if fresh {
		flags |= os.O_EXCL
		if _, err := folder.Lstat(part); err == nil {
			return w, fmt.Errorf("%w: remove %s if nobody needs it", ErrForeign, part)
		}
	}
	if w.Offset == 0 {
		flags |= os.O_CREATE
		if err := r.records.write(w.record()); err != nil {
			return w, err
		}
	}
	if w.file, err = folder.OpenFile(part, flags, 0o640); err != nil {
		return w, err
	}
	if info, err := w.file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() < w.Offset {
		return w, errors.Join(fmt.Errorf("%w: %s was changed by somebody else: give this upload up, and begin anew", ErrOther, part), err, w.file.Close())
	}
	_, err = w.file.Seek(w.Offset, io.SeekStart)
	if err = errors.Join(err, w.file.Truncate(w.Offset)); err != nil {
		err = errors.Join(err, w.file.Close())
	}
	return w, err
}

// goOn is where an upload goes on with a part. One that begins at the start again does
// so, as long as it is of the same file.
func (r *Receiver) goOn(was record, key string, p Part, fresh bool) (*writing, error) {
	w := &writing{Upload: was.Upload, hash: sha256.New()}
	switch {
	case fresh:
		if err := r.records.bounded(); err != nil {
			return w, err
		}
		w.Upload = Upload{Key: key, Size: p.Size, Began: r.now().UTC(), By: p.By}
	case was.Size != p.Size || len(was.SHA256) > 0 && len(p.SHA256) > 0 && !bytes.Equal(was.SHA256, p.SHA256):
		return w, fmt.Errorf("%w: one of %d bytes, of which %d have come; go on with that, or give it up", ErrOther, was.Size, was.Offset)
	}
	if len(p.SHA256) > 0 {
		w.SHA256 = p.SHA256
	}
	switch {
	case p.First == 0:
		w.Offset = 0
	case p.First != w.Offset:
		return w, fmt.Errorf("%w: %d bytes have come, and the part begins at %d", ErrOffset, w.Offset, p.First)
	default:
		if err := was.resume(w.hash); err != nil {
			return w, err
		}
	}
	if p.First+p.Length == w.Size && len(w.SHA256) == 0 {
		return w, fmt.Errorf("%w: the last part comes with the SHA-256 of the whole file", ErrInput)
	}
	w.Changed = r.now().UTC()
	return w, nil
}

// room tells whether what is to come has room, beside what is promised to others.
func (r *Receiver) room(folder *os.Root, left *int64, need int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*left = need
	var promised int64
	for _, n := range r.busy {
		promised += *n
	}
	free, err := free(folder)
	if err == nil && promised+margin > free {
		err = fmt.Errorf("%w: %d bytes are to come, and %d are free, of which %d are promised to others and %d stay free", ErrRoom, need, free, promised-need, margin)
	}
	return err
}

// free is how much room there is for the folder's files, bytes.
func free(folder *os.Root) (int64, error) {
	f, err := folder.Open(".")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var room unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &room)
	return int64(room.Bavail) * room.Bsize, err
}

// copy takes a part's bytes. However it ends, it is kept how far that was.
func (r *Receiver) copy(ctx context.Context, w *writing, p Part, body io.Reader, left *int64) error {
	buffer := make([]byte, 1<<20)
	from := io.LimitReader(body, p.Length)
	kept := w.Offset
	for end := p.First + p.Length; w.Offset < end; {
		n, err := io.ReadAtLeast(from, buffer, 1)
		if err != nil {
			return errors.Join(fmt.Errorf("%w: %w", ErrShort, err), context.Cause(ctx), r.save(w))
		}
		if _, err := w.file.Write(buffer[:n]); err != nil {
			return errors.Join(roomOr(err), r.save(w)) // the next part begins before what was written of this
		}
		w.hash.Write(buffer[:n])
		w.Offset += int64(n)
		r.mu.Lock()
		*left = w.Size - w.Offset
		r.mu.Unlock()
		if w.Offset-kept < saved {
			continue
		}
		if err := r.save(w); err != nil {
			return err
		}
		kept = w.Offset
	}
	return r.save(w)
}

func roomOr(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrRoom, err)
	}
	return err
}

// save keeps how far an upload is, once that is on stable storage.
func (r *Receiver) save(w *writing) error {
	if err := w.file.Sync(); err != nil {
		return roomOr(err)
	}
	return r.records.write(w.record())
}

// finish hands over a file that is whole, or removes what did not come as it was sent.
func (r *Receiver) finish(folder *os.Root, part string, w *writing, accept Accept) error {
	if got := w.hash.Sum(nil); !bytes.Equal(got, w.SHA256) {
		err := fmt.Errorf("%w: its SHA-256 is %x, and %x was sent; it was removed: upload it again", ErrDigest, got, w.SHA256)
		return errors.Join(err, folder.Remove(part), r.records.remove(w.Key))
	}
	err := accept(folder, part)
	switch {
	case err == nil:
		return r.records.remove(w.Key)
	case errors.Is(err, ErrRefused):
		return errors.Join(err, gone(folder.Remove(part)), r.records.remove(w.Key))
	}
	return err // it is whole, and can be asked for to be put in place again
}

// gone is an error of a removal, but that there was nothing.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
