// Package transfer copies disks into their targets, once, all disks of a machine
// side by side. Holes are not read and zeroes are not written. Each chunk's
// digest goes into a manifest, so that a target can be verified at any time. What
// was copied is told by a journal, so that a copy that was killed goes on where it
// was. A target gets its final name only when it is whole and on stable storage.
//
// Job: one disk to copy, and where to. Chunk: the piece of a disk that has a
// digest. Manifest: the digests of a disk's chunks. Journal: which chunks are in
// a target that is not whole yet. Progress: how far it is, with what is counted
// named.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/vhost"
)

// Errors that callers decide on.
var (
	// ErrTarget is a target that cannot be written as asked.
	ErrTarget = errors.New("cannot write the target")
	// ErrSource is a source that cannot be read.
	ErrSource = errors.New("cannot read the source")
)

// Target is the file that a copy makes, or the block device that it fills. Of a
// device the start comes last, so that one that is half filled is no disk.
type Target struct {
	Path string // of a file that must not exist, or of a device
	disk.Shape
	Size int64 // virtual size in bytes

	Device    bool   // the path is a block device's; the format is raw
	Beside    string // of a device: the name, without extension, of the files that tell of it
	Overwrite bool   // of a device: it may hold something
}

// Job is one disk to copy.
type Job struct {
	ID   string // of the copy: one that was killed goes on under the same
	From disk.Export
	// Beneath is the disk that From is an overlay over, if it is one: what is not in
	// the overlay is then read from there, and the manifest tells how the disk had
	// what is. Nothing may write to the overlay meanwhile.
	Beneath disk.Export
	To      Target
}

// Progress is how far the copy of one disk is.
type Progress struct {
	Disk      int   // index of its job
	Virtual   int64 // bytes of the disk dealt with, holes included
	Total     int64 // bytes of the disk
	Wire      int64 // bytes read from the source by this run
	Allocated int64 // bytes that the target takes on its storage
}

// Result is a finished copy.
type Result struct {
	Path      string        `json:"path"`
	Format    string        `json:"format"`
	Size      int64         `json:"size"`              // virtual bytes
	Allocated int64         `json:"allocated"`         // bytes on storage
	Wire      int64         `json:"wire"`              // bytes read from the source by the run that finished it
	Content   string        `json:"content,omitempty"` // digest of the disk's content, of its manifest
	Took      time.Duration `json:"took"`              // by the run that finished it
}

// Copier copies machines' disks.
type Copier interface {
	// Copy copies all jobs. Calls of report come one at a time. When it fails
	// because of a source, is cancelled, or a target's server falls silent, what was
	// copied stays for the next call with the same jobs; a target that cannot be written
	// leaves nothing.
	Copy(ctx context.Context, jobs []Job, report func(Progress)) ([]Result, error)
}

// Parallel copies all disks side by side, under one budget of memory and speed.
type Parallel struct {
	Limits []Limit // of the speed at which sources are read
	// Reconnect is how long a source's server that was lost is dialed again.
	Reconnect time.Duration
	// Silence is how long a source's or a target's server may owe an answer and send
	// nothing; zero: nbd.LongestSilence, and longestFlush for a target.
	Silence time.Duration
}

func (p Parallel) patience() patience {
	return patience{p.Reconnect, cmp.Or(p.Silence, nbd.LongestSilence)}
}

// longestFlush is far more than a slow stick takes to write what a kernel keeps back for
// it, which may be a fifth of a large memory: a server says nothing meanwhile.
const longestFlush = time.Hour

// flushes is how long a target's server may say nothing.
func (p Parallel) flushes() time.Duration { return cmp.Or(p.Silence, longestFlush) }

// reportEvery is how often progress is told.
const reportEvery = 500 * time.Millisecond

// Copy implements Copier.
func (p Parallel) Copy(ctx context.Context, jobs []Job, report func(Progress)) ([]Result, error) {
	for i, job := range jobs { // before anything is written, or taken back for another's sake
		if err := job.mayBegin(); err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
	}
	told := serial(report)
	results, err := sideBySide(ctx, jobs, func(ctx context.Context, i int, b *budget) (Result, error) {
		return p.one(ctx, jobs[i], b, func(at Progress) { at.Disk = i; told(at) })
	}, p.Limits)
	if err != nil {
		return nil, errors.Join(err, afterwards(err, jobs))
	}
	return results, nil
}

// sideBySide works on all jobs. The first error ends all.
func sideBySide(ctx context.Context, jobs []Job, work func(ctx context.Context, i int, b *budget) (Result, error), limits []Limit) (_ []Result, err error) {
	chunk := int64(leastChunk)
	for _, j := range jobs {
		chunk = max(chunk, chunkFor(j.To.Size))
	}
	b, err := newBudget(len(jobs), chunk, newThrottle(limits))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	inner, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	results := make([]Result, len(jobs))
	var group sync.WaitGroup
	for i := range jobs {
		group.Go(func() {
			var err error
			if results[i], err = work(inner, i, b); err != nil {
				fail(fmt.Errorf("disk %d: %w", i, err))
			}
		})
	}
	group.Wait()
	return results, context.Cause(inner)
}

// serial lets one caller at a time through.
func serial(report func(Progress)) func(Progress) {
	var mu sync.Mutex
	return func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		report(p)
	}
}

// afterwards removes what jobs made that failed for a target's sake: going on
// would fail again, and its storage may be full. One that was silent may answer again.
func afterwards(err error, jobs []Job) error {
	if !errors.Is(err, ErrTarget) || errors.Is(err, nbd.ErrSilent) || errors.Is(err, vhost.ErrSilent) {
		return nil
	}
	var failed []error
	for _, job := range jobs {
		failed = append(failed, Discard(job.To, job.ID))
	}
	return errors.Join(failed...)
}

// mayBegin is ErrTarget for a target that somebody else's file or data are in the
// way of.
func (j Job) mayBegin() error {
	whole, err := j.To.finished(j.ID)
	if err != nil || whole || j.To.Device && j.resumes() {
		return err
	}
	return j.To.vacant(j.ID)
}

// one copies one disk, or goes on with it, or finds that it is whole already.
func (p Parallel) one(ctx context.Context, job Job, b *budget, report func(Progress)) (_ Result, err error) {
	start := time.Now()
	whole, err := job.To.finished(job.ID)
	if err != nil {
		return Result{}, err
	}
	if whole { // by a run that was killed before it could say so
		return result(job, 0, start)
	}
	from, err := p.open(ctx, job)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	wire, err := job.copy(ctx, from, filling{budget: b, report: report, silence: p.flushes()})
	if err != nil {
		return Result{}, err
	}
	if err := job.To.publish(); err != nil {
		return Result{}, err
	}
	return result(job, wire, start)
}

// open opens a job's source.
func (p Parallel) open(ctx context.Context, job Job) (from Reader, err error) {
	if job.Beneath == (disk.Export{}) {
		from, err = openDisk(ctx, job.From, p.patience())
	} else {
		from, err = openLayered(ctx, job.From, job.Beneath, p.patience())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	if from.Size() != job.To.Size {
		return nil, errors.Join(fmt.Errorf("%w: it has %d bytes, %d were expected", ErrSource, from.Size(), job.To.Size), from.Close())
	}
	return from, nil
}

// result describes a target that has its final name.
func result(job Job, wire int64, start time.Time) (Result, error) {
	if err := ignoreAbsent(os.Remove(job.To.journal())); err != nil {
		return Result{}, err
	}
	m, err := openManifest(job.To.Manifest(), os.O_RDONLY)
	if err != nil {
		return Result{}, err
	}
	return Result{Path: job.To.Path, Format: job.To.Format, Size: job.To.Size, Allocated: job.To.allocated(),
		Wire: wire, Content: m.Content, Took: time.Since(start)}, m.close()
}

// allocated is what the target takes on its storage, in bytes.
func (t Target) allocated() int64 {
	if t.Device {
		return t.Size
	}
	return allocated(t.Path)
}

// allocated is what a file takes on its storage, in bytes.
func allocated(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // not made yet
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
