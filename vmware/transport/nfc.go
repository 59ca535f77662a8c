package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"hyper2kvm/pipeline/disk"
)

// nfc reads a disk that the server exports from start to end, compressed, into a file
// here, and reads that. It needs no access to datastores, and sends no zeroes.
//
// Source: vSphere Web Services API, HttpNfcLease; VM.ExportVm, ExportSnapshot.
var nfc = Transport{
	Name:  "nfc",
	Does:  "reads the disk as the server exports it, as one compressed stream",
	Own:   true,
	Whole: true,
	Open:  openNFC,
}

func openNFC(ctx context.Context, a Access, d Disk) (disk.Remote, error) {
	switch {
	case d.Export == nil:
		return nil, fmt.Errorf("%w: the server offers no export of the disk", ErrUnusable)
	case d.Folder == "" || d.Size <= 0:
		return nil, fmt.Errorf("%w: there is no folder for the disk, or its size is not known", ErrUnusable)
	}
	s := newSpool(d)
	if r, err := s.reopen(); r != nil || err != nil {
		return r, err
	}
	for n := 1; ; n++ {
		err := s.fill(func(put func([]byte, int64) error) error {
			if d.Begun != nil {
				d.Begun()
			}
			return export(ctx, a, d, put)
		})
		if err == nil {
			return s.open()
		}
		again := interrupted{}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !errors.As(err, &again) || n == mostExports:
			return nil, unusable(ctx, err)
		}
		if err := sleep(ctx, time.Duration(n)*usual.first); err != nil {
			return nil, err
		}
	}
}

// mostExports is how often a disk is exported from its start.
const mostExports = 3

// interrupted is an export that ended early: another may be whole.
type interrupted struct{ error }

// Unwrap is why.
func (i interrupted) Unwrap() error { return i.error }

// inHand is what the stream of an export takes of a host's budget, in bytes.
const inHand = 4 << 20

// export has the server export the disk, and puts its grains.
func export(ctx context.Context, a Access, d Disk, put func([]byte, int64) error) (err error) {
	give, err := hosts.take(ctx, d.Host, &d, inHand)
	if err != nil {
		return err
	}
	defer give()
	e, err := d.Export(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(ctx, e, err == nil)) }()
	if e.URL == nil || e.Client == nil {
		return fmt.Errorf("%w: the export has no address", ErrUnusable)
	}
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var read atomic.Int64 // of the disk, bytes
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		beat(own, e, d.Size, &read, cancel)
	}()
	defer func() { cancel(nil); <-beats }()
	if err := receive(own, a, e, d, &read, put); err != nil {
		if cause := context.Cause(own); ctx.Err() == nil && cause != nil {
			return interrupted{cause}
		}
		return err
	}
	return nil
}

// closing takes at most so long, also when the migration was stopped.
const mostClosing = 30 * time.Second

// ended ends an export.
func ended(ctx context.Context, e Export, complete bool) error {
	if e.Close == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mostClosing)
	defer cancel()
	return e.Close(ctx, complete)
}

// Progress is told so often: a lease ends after five minutes without. It may fail so
// often in a row.
//
// Source: vSphere Web Services API, HttpNfcLeaseProgress; leaseTimeout is 300 seconds.
var (
	heartbeat = 20 * time.Second
	mostLost  = 5
)

// beat tells the server how far an export is, until the context ends or the server
// does not know the export any more.
func beat(ctx context.Context, e Export, size int64, read *atomic.Int64, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for lost := 0; e.Progress != nil; {
		err := e.Progress(ctx, int(min(read.Load(), size)*99/size))
		if lost++; err == nil {
			lost = 0
		}
		if errors.Is(err, ErrEnded) || lost == mostLost {
			cancel(fmt.Errorf("the server has ended the export: %w", err))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// receive reads the stream of an export once.
func receive(ctx context.Context, a Access, e Export, d Disk, read *atomic.Int64, put func([]byte, int64) error) error {
	w := newWeb(e.Client, nil)
	defer w.close()
	if a.Server != nil && a.Cookie != nil && e.URL.Host == a.Server.Host {
		w.cookie = &cookie{get: a.Cookie}
	}
	err := w.do(ctx, e.URL, func() http.Header { return http.Header{"Accept-Encoding": {"identity"}} }, func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return verdict{refusedStream(r)}
		}
		err := disk.ReadStream(taken{r.Body, ctx, a.Pace, d.Came}, d.Size, func(p []byte, off int64) error {
			read.Store(max(read.Load(), off+int64(len(p))))
			if err := put(p, off); err != nil {
				return notKept{err}
			}
			return nil
		})
		if err = judged(err); err != nil {
			return verdict{err}
		}
		return nil
	})
	if errors.Is(err, errNoFile) {
		return interrupted{err} // the lease has ended before the stream began
	}
	return err
}

// taken is a stream that is counted, and taken as fast as it may be.
type taken struct {
	io.Reader
	ctx  context.Context
	pace func(ctx context.Context, n int64) error
	came func(n int64)
}

func (t taken) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b[:min(len(b), mostAtOnce)])
	if t.came != nil {
		t.came(int64(n))
	}
	if t.pace != nil && n > 0 {
		if held := t.pace(t.ctx, int64(n)); held != nil {
			return n, held
		}
	}
	return n, err
}

// mostAtOnce is so little that a slow pace is not taken for a server that is silent.
const mostAtOnce = 16 << 10

func refusedStream(r *http.Response) error {
	return fmt.Errorf("%w: %s answers %s to an export", ErrUnusable, r.Request.URL.Host, r.Status)
}

// notKept is a stream that cannot be kept here.
type notKept struct{ error }

// Unwrap is why.
func (n notKept) Unwrap() error { return n.error }

// judged tells what of a stream another try would make no better.
func judged(err error) error {
	_, here := errors.AsType[notKept](err)
	if err == nil || here || errors.Is(err, disk.ErrNotADisk) || errors.Is(err, disk.ErrDamaged) {
		return err
	}
	if errors.Is(err, disk.ErrTruncated) {
		err = errEarly
	}
	return interrupted{err}
}

// errEarly is a stream that is not whole.
var errEarly = errors.New("the stream of the export ended early")
