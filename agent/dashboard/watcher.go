package dashboard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"hyper2kvm/agent/api/client"
)

// How often things are looked at. What happens to links and migrations is told besides.
const (
	often   = 5 * time.Second  // the agent, and who has access
	soon    = 2 * time.Second  // migrations, while something happens to them
	rarely  = 30 * time.Second // migrations, while nothing is told of them
	seldom  = 10 * time.Minute // what this machine can run, the certificate, the settings
	patient = 5 * time.Second  // that an answer is waited for
)

// Watcher keeps a status up to date. Its methods may be called by several at once.
type Watcher struct {
	options Options
	tell    func(Status)
	poke    chan struct{} // something has happened to migrations: look soon
	moved   chan struct{} // something has happened to links: look soon
	all     sync.WaitGroup

	mu      sync.Mutex
	now     Status
	told    Status
	changed bool // migrations were told of since they were read

	conn *client.Conn // nil: the agent does not answer. It and the below are of the goroutine of agent.
	stop context.CancelFunc
	read time.Time // when migrations were read
	look time.Time // when what seldom changes was looked at
}

func newWatcher(o Options) *Watcher {
	return &Watcher{options: o, poke: make(chan struct{}, 1), moved: make(chan struct{}, 1), tell: func(Status) {}, now: Status{Version: o.Version}}
}

// run tells of each new status until ctx ends.
func (w *Watcher) run(ctx context.Context, tell func(Status)) {
	w.tell = tell
	w.local()
	w.settings()
	w.all.Go(func() { w.follow(ctx) })
	w.all.Go(func() { repeat(ctx, often, w.moved, w.local) })
	w.all.Go(func() {
		defer w.leave()
		repeat(ctx, often, w.poke, func() { w.agent(ctx) })
	})
	w.all.Wait()
}

// repeat does something now, again and again, and whenever it is poked, but not more
// often than soon.
func repeat(ctx context.Context, every time.Duration, poke <-chan struct{}, do func()) {
	for ctx.Err() == nil {
		do()
		wait(ctx, every, poke)
	}
}

func wait(ctx context.Context, every time.Duration, poke <-chan struct{}) {
	earliest, latest := time.After(soon), time.After(every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-latest:
			return
		case <-earliest:
			earliest = nil
		case <-when(earliest == nil, poke):
			return
		}
	}
}

// when is a channel, or nothing that ever happens.
func when(is bool, c <-chan struct{}) <-chan struct{} {
	if is {
		return c
	}
	return nil
}

// set changes the status, and tells of it if it is another one then.
func (w *Watcher) set(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.now)
	if !reflect.DeepEqual(w.now, w.told) {
		w.told = w.now
		w.tell(w.now)
	}
}

func (w *Watcher) status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// hint pokes whoever waits, or is about to.
func hint(poke chan<- struct{}) {
	select {
	case poke <- struct{}{}:
	default:
	}
}

// follow looks at links whenever they change.
func (w *Watcher) follow(ctx context.Context) {
	if err := linkChanges(ctx, func() { hint(w.moved) }); err != nil {
		w.set(func(s *Status) { s.LinkFault = "their changes are seen late: " + err.Error() })
	}
}

// agent asks the agent all there is to ask.
func (w *Watcher) agent(ctx context.Context) {
	if err := w.answers(ctx); err != nil {
		w.away(err)
		return
	}
	w.seldom(ctx)
	w.code(ctx)
	w.jobs(ctx)
}

// answers tells whether the agent does. Another connection is made after each failure: one
// that has been answered waits for long before it tells of one.
func (w *Watcher) answers(ctx context.Context) error {
	if w.conn == nil {
		conn, err := client.New("unix:"+w.options.Socket, client.Options{})
		if err != nil {
			return err
		}
		w.conn = conn
	}
	ctx, cancel := within(ctx)
	defer cancel()
	err := w.conn.Ready(ctx)
	refusal, refused := errors.AsType[*client.Refusal](err)
	if err != nil && !refused {
		return err
	}
	why := ""
	if refused {
		why = refusal.Error()
	}
	w.set(func(s *Status) { s.Agent = Health{Known: true, Answers: true, Why: why} })
	return nil
}

// within bounds how long an answer is waited for.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patient, fmt.Errorf("no answer within %v", patient))
}

// away notes that the agent does not answer. What may be another when it is back is known
// no more.
func (w *Watcher) away(err error) {
	w.leave()
	ended := ending(w.options.Socket)
	w.set(func(s *Status) {
		since := s.Agent.Since
		if !s.Agent.Known || s.Agent.Answers {
			since = time.Now()
		}
		s.Agent = Health{Known: true, Since: since, Why: reason(err), Ended: ended}
		s.Jobs, s.Fingerprint = Jobs{}, ""
		if s.Code.State != CodeMade { // which holds when the agent is back
			s.Code = Code{}
		}
	})
}

// leave ends what goes on over a connection.
func (w *Watcher) leave() {
	if w.stop != nil {
		w.stop()
	}
	w.conn, w.stop = nil, nil
	w.read, w.look = time.Time{}, time.Time{}
}

// refresh has everything looked at again soon.
func (w *Watcher) refresh() {
	w.settings()
	hint(w.moved)
	hint(w.poke)
}
