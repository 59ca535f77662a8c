package transfer

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"sync"
	"time"

	"hyper2kvm/pipeline/disk"
)

// copy brings a disk's content into the target's temporary file, which is whole
// and on stable storage when it returns nil, and its manifest sealed.
func (j Job) copy(ctx context.Context, from Reader, f filling) (wire int64, err error) {
	s, err := j.begin(ctx)
	if err != nil {
		return 0, unwritten(err)
	}
	f.path, f.todo = j.To.work(), j.To.order(ctx, from, s.header)
	return j.fill(ctx, from, s, f)
}

// filling is how a target is filled.
type filling struct {
	path    string                    // of the target's file
	todo    []iter.Seq2[piece, error] // each is on stable storage before the next
	budget  *budget
	report  func(Progress)
	silence time.Duration // that the target's server may keep
}

// fill copies what is to do, and seals the manifest when that is whole.
func (j Job) fill(ctx context.Context, from Reader, s *saved, f filling) (wire int64, err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	to, err := j.To.open(ctx, f.path, f.silence)
	if err != nil {
		return 0, unwritten(err)
	}
	f.budget.share(ctx, from)
	f.budget.share(ctx, to)
	c := newCopying(from, to, s, f.budget)
	err = j.fillOpened(ctx, s, c, f)
	if closed := to.Close(); err == nil && closed != nil {
		err = unwritten(closed)
	}
	if err != nil {
		return 0, err
	}
	if err := s.seal(); err != nil {
		return 0, unwritten(err)
	}
	return c.wire.Load(), nil
}

func (j Job) fillOpened(ctx context.Context, s *saved, c *copying, f filling) error {
	if err := s.believe(ctx, c); err != nil {
		return err
	}
	stop := c.tell(f.report, f.path, j.To.Device)
	err := c.runAll(ctx, f.todo)
	stop()
	if err != nil {
		return err
	}
	if j.Beneath != (disk.Export{}) {
		if err := s.addOrigins(ctx, c.from); err != nil {
			return err
		}
	}
	return c.sync(ctx)
}

// runAll copies one part after the other.
func (c *copying) runAll(ctx context.Context, parts []iter.Seq2[piece, error]) error {
	for i, part := range parts {
		if i > 0 {
			if err := c.sync(ctx); err != nil {
				return err
			}
		}
		if err := c.run(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// order is the order in which a target is filled.
func (t Target) order(ctx context.Context, from Reader, h header) []iter.Seq2[piece, error] {
	if !t.Device || h.chunks() < 2 {
		return []iter.Seq2[piece, error]{pieces(ctx, from, h, 0, h.chunks())}
	}
	return []iter.Seq2[piece, error]{pieces(ctx, from, h, 1, h.chunks()-1), pieces(ctx, from, h, 0, 1)}
}

// saved is what is known of a copy that begins or goes on.
type saved struct {
	*manifest
	journal *journal
	done    bitmap // chunks that are in the target; nil in one that is new
	blank   bool   // all of it that was not written reads as zeroes
}

func (s *saved) close() error { return errors.Join(s.manifest.close(), s.journal.close()) }

// begin goes on with what an earlier run left of the same copy, or makes an empty
// target.
func (j Job) begin(ctx context.Context) (*saved, error) {
	s, err := j.resume(ctx)
	if s != nil || err != nil {
		return s, err
	}
	if err := Discard(j.To, j.ID); err != nil {
		return nil, err
	}
	h := newHeader(j.ID, j.To.Size)
	m, err := createManifest(j.To.Manifest()+partial, h)
	if err != nil {
		return nil, err
	}
	if err := j.To.create(ctx); err != nil {
		return nil, errors.Join(err, m.close())
	}
	// The journal comes last: with it, all the rest is there.
	journal, err := createJournal(j.To.journal(), h)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return &saved{manifest: m, journal: journal, blank: !j.To.Device}, nil
}

// resume is nil if there is nothing to go on with.
func (j Job) resume(ctx context.Context) (*saved, error) {
	log, err := openJournal(j.To.journal(), newHeader(j.ID, j.To.Size))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrManifest) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := j.reopen(ctx, log)
	if err != nil || s == nil {
		return nil, errors.Join(err, log.close())
	}
	return s, nil
}

func (j Job) reopen(ctx context.Context, log *journal) (*saved, error) {
	if _, err := os.Stat(j.To.work()); err != nil {
		return nil, ignoreAbsent(err)
	}
	m, err := j.reopenManifest()
	if m == nil || err != nil {
		return nil, err
	}
	done, err := log.replay(m)
	if err == nil && j.To.Format != disk.Raw {
		if other, failed := log.otherBoot(); failed != nil || other && disk.CheckFormat(ctx, j.To.work(), j.To.Format) != nil {
			return nil, errors.Join(failed, m.close()) // the machine's failure took a part of the format itself
		}
	}
	if err == nil {
		err = log.f.Truncate(log.end)
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return &saved{manifest: m, journal: log, done: done}, nil
}

// resumes tells whether an earlier run of the same copy was interrupted.
func (j Job) resumes() bool {
	owner, known := j.To.atWork()
	return known && owner == j.ID
}

// reopenManifest is nil where there is none of this copy.
func (j Job) reopenManifest() (*manifest, error) {
	for _, path := range []string{j.To.Manifest() + partial, j.To.Manifest()} {
		m, err := openManifest(path, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrManifest) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m.ID == j.ID && m.Size == j.To.Size {
			return m, nil
		}
		if err := m.close(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// believe reads back what the journal tells of, if the machine was started anew
// since: what was not on stable storage then is gone.
func (s *saved) believe(ctx context.Context, c *copying) error {
	other, err := s.journal.otherBoot()
	if err != nil || !other {
		return err
	}
	var mu sync.Mutex
	done := slices.Clone(s.done)
	if err := compare(ctx, c.to, s.manifest, s.done, &meter{}, func(i int64) {
		mu.Lock()
		defer mu.Unlock()
		done.clear(i)
	}); err != nil {
		return err
	}
	anew, err := createJournal(s.journal.f.Name(), s.journal.header)
	if err != nil {
		return unwritten(err)
	}
	old := s.journal
	s.journal, c.journal, c.done = anew, anew, done
	if err := old.close(); err != nil {
		return err
	}
	for _, r := range done.runs(s.chunks()) {
		if err := s.journal.add(s.manifest, r.first, r.count); err != nil {
			return unwritten(err)
		}
	}
	return nil
}

// tell reports how far the copy is until it is stopped, and once more then.
func (c *copying) tell(report func(Progress), path string, device bool) (stop func()) {
	return nowAndThen(func() {
		at := Progress{Virtual: c.virtual.Load(), Total: c.manifest.Size, Wire: c.wire.Load()}
		if at.Allocated = at.Virtual; !device { // which has room for all of it
			at.Allocated = allocated(path)
		}
		report(at)
	})
}

// nowAndThen calls now until it is stopped, and once more then.
func nowAndThen(now func()) (stop func()) {
	ended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				now()
			case <-ended:
				now()
				return
			}
		}
	}()
	return func() { close(ended); <-over }
}
