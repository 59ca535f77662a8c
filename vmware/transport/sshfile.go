package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/pkg/sftp"

	"hyper2kvm/pipeline/disk"
)

// sshFile is a file of the host's, which is opened anew on each connection.
type sshFile struct {
	link *sshLink
	name string // as vSphere writes it
	path string // the host's
	size int64  // since it was first opened

	mu     sync.Mutex
	on     *sshSession
	handle *sftp.File
}

// open opens a file of a datastore.
func (l *sshLink) open(ctx context.Context, name string) (disk.File, error) {
	at, err := volumePath(name)
	if err != nil {
		return nil, err
	}
	f := &sshFile{link: l, name: name, path: at, size: -1}
	err = f.do(ctx, func(*sshSession, *sftp.File) error { return nil })
	switch {
	case errors.Is(err, ErrUnusable):
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w over SSH: %s is not on the host: read it through a host that has its datastore", ErrUnusable, name)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w over SSH: the user may not read %s", ErrUnusable, name)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Name implements disk.File.
func (f *sshFile) Name() string { return f.name }

// Size implements disk.File.
func (f *sshFile) Size() int64 { return f.size }

// Close implements disk.File. The host hears of it with the end of the connection.
func (f *sshFile) Close() error { return nil }

// ReadAt implements disk.File. A connection that is cut meanwhile is made anew.
func (f *sshFile) ReadAt(ctx context.Context, p []byte, at int64) (n int, err error) {
	for n < len(p) {
		left := f.size - at - int64(n)
		if at < 0 || left <= 0 {
			return n, io.EOF
		}
		got, err := f.piece(ctx, p[n:n+int(min(int64(len(p)-n), mostRead, left))], at+int64(n))
		if n += got; err != nil {
			return n, err
		}
	}
	return n, nil
}

// piece reads a beginning of p: a server may send less than it is asked for. Each try reads
// into a buffer of its own, since an answer may come when nobody waits for it any more.
func (f *sshFile) piece(ctx context.Context, p []byte, at int64) (n int, err error) {
	err = f.do(ctx, func(s *sshSession, h *sftp.File) error {
		var got int
		buf := make([]byte, len(p))
		err := s.do(ctx, func() (err error) {
			got, err = h.ReadAt(buf, at)
			return err
		})
		if err != nil && (!errors.Is(err, io.EOF) || got == 0) {
			return err
		}
		n = copy(p, buf[:got])
		return nil
	})
	return n, err
}

// sshTries is how many connections one read may lose.
const sshTries = 4

// do has g ask for the file, once more of another connection if one is lost.
func (f *sshFile) do(ctx context.Context, g func(*sshSession, *sftp.File) error) error {
	var failed *sshSession
	for try := 1; ; try++ {
		s, err := f.link.session(ctx, failed)
		if err != nil {
			return err
		}
		h, err := f.opened(ctx, s)
		if err == nil {
			err = g(s, h)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !lost(err) || try == sshTries:
			return f.told(err)
		}
		failed = s
	}
}

// lost tells whether an error is the connection's: all others a server sent. An end of
// file is one, since nothing is asked for beyond that of the file.
func lost(err error) bool {
	_, status := errors.AsType[*sftp.StatusError](err)
	return err != nil && !status && !errors.Is(err, errChanged) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

// told is a server's error for people.
func (f *sshFile) told(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ssh: %s: %w", f.name, err)
}

// errChanged is a file that is not the one that was opened at first.
var errChanged = errors.New("it changed while it was read: something writes it")

// opened is the file on a connection.
func (f *sshFile) opened(ctx context.Context, s *sshSession) (*sftp.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on == s {
		return f.handle, nil
	}
	var h *sftp.File
	var info fs.FileInfo
	err := s.do(ctx, func() (err error) {
		if h, err = s.files.Open(f.path); err == nil {
			info, err = h.Stat()
		}
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.size >= 0:
		return nil, fmt.Errorf("it %w: %w", ErrGone, err)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || f.size >= 0 && info.Size() != f.size:
		return nil, fmt.Errorf("%w: it has %d bytes, mode %v", errChanged, info.Size(), info.Mode())
	}
	if f.on, f.handle = s, h; f.size < 0 {
		f.size = info.Size()
	}
	return h, nil
}
