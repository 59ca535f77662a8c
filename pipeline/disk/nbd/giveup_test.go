package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A read that is given up in any state leaves its buffer alone, and the
// connection serves the next request.
func TestAGivenUpReadLeavesItsBuffer(t *testing.T) {
	pool, dir := certificate(t)
	server := &tls.Config{Certificates: []tls.Certificate{keyPair(t, dir)}}
	client := &tls.Config{RootCAs: pool, ServerName: "disks.example"}
	for name, sent := range map[string]int{"before the reply": 0, "in the header": 10, "in the data": structuredSize + 8 + 100_000} {
		t.Run(name, func(t *testing.T) {
			giveUp(t, sent, terms{size: 1 << 30, flags: everything}, nil)
			giveUp(t, sent, terms{size: 1 << 30, flags: everything, simple: true}, nil)
			giveUp(t, sent, terms{size: 1 << 30, flags: everything, tls: server}, client)
		})
	}
}

// giveUp gives a read up when so much of its answer was sent.
func giveUp(t *testing.T, sent int, terms terms, config *tls.Config) {
	t.Helper()
	const length = 300_000
	impatient := errors.New("impatient")
	partly, gone := make(chan struct{}), make(chan struct{})
	o := scripted(t, func(p *peer) {
		p.negotiate(terms)
		a, _ := p.request()
		answer := join(chunk(a, 0, chunkData, a.off, noise[:length]), done(a))
		if terms.simple {
			answer = simple(a, 0, noise[:length])
		}
		p.send(answer[:sent])
		close(partly)
		<-gone
		p.send(answer[sent:])
		for a, ok := p.request(); ok && a.command == cmdFlush; a, ok = p.request() {
			p.send(simple(a, 0))
		}
	})
	o.TLS = config
	c := dial(t, o)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-partly
		awaitBorrowed(c, sent > structuredSize)
		cancel(impatient)
	}()
	got := make([]byte, length)
	if err := c.Read(ctx, got, 0); !errors.Is(err, impatient) {
		t.Errorf("Read = %v, want %v", err, impatient)
	}
	for i := range got { // what the reader still wrote would be a race
		got[i] = 0x55
	}
	close(gone)
	if err := c.Flush(t.Context()); err != nil { // the rest of the answer came before
		t.Errorf("the next request = %v", err)
	}
	if bytes.Count(got, []byte{0x55}) != length {
		t.Error("the buffer was written to after the read was given up")
	}
}

// awaitBorrowed returns when the reader writes to a buffer, if it should.
func awaitBorrowed(c *Client, borrowed bool) {
	for ; borrowed; runtime.Gosched() {
		c.mu.Lock()
		for _, r := range c.pending {
			borrowed = borrowed && !r.busy
		}
		c.mu.Unlock()
	}
}

func TestARequestThatIsGivenUpHalfSentEndsTheConnection(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		p.request()
		arrived <- struct{}{}
		p.take(1)
		arrived <- struct{}{}
		<-t.Context().Done() // reads no more
	}))
	first := make(chan error)
	go func() { first <- c.Flush(t.Context()) }()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	p := make([]byte, 8<<20)
	written := make(chan error)
	go func() { written <- c.Write(ctx, p, 0) }()
	<-arrived
	waiting := make(chan error)
	waitCtx, stopWaiting := context.WithCancel(t.Context())
	go func() { waiting <- c.Flush(waitCtx) }()
	stopWaiting()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Flush behind a stuck write = %v, want %v", err, context.Canceled)
	}
	cancel()
	if err := <-written; !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v, want %v", err, context.Canceled)
	}
	clear(p)
	if err := <-first; !errors.Is(err, ErrDisconnected) || errors.Is(err, context.Canceled) {
		t.Errorf("the other request = %v, want %v", err, ErrDisconnected)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("the next request = %v, want %v", err, ErrDisconnected)
	}
}

func TestACloseEndsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"a small request": 512, "a request that is being sent": 8 << 20} {
		arrived := make(chan struct{})
		c := dial(t, scripted(t, func(p *peer) {
			p.negotiate(terms{size: 1 << 30, flags: everything})
			if n > 512 {
				p.take(1)
				close(arrived)
				<-t.Context().Done() // reads no more
				return
			}
			p.request()
			close(arrived)
			if a, ok := p.request(); !ok || a.command != cmdDisconnect {
				t.Errorf("the server hears %+v, want a goodbye", a)
			}
		}))
		written := make(chan error)
		go func() { written <- c.Write(t.Context(), make([]byte, n), 0) }()
		<-arrived
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		if err := <-written; !errors.Is(err, ErrClosed) {
			t.Errorf("%s = %v, want %v", name, err, ErrClosed)
		}
		if err := c.Flush(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("the next request = %v, want %v", err, ErrClosed)
		}
	}
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	c := dial(t, unasked(t, everything))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush = %v, want %v", err, context.Canceled)
	}
}

// Requests are given up at random moments while others go on; the race detector
// watches their buffers.
func TestGivingUpDisturbsNobodyElse(t *testing.T) {
	t.Parallel()
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok && a.command == cmdRead; a, ok = p.request() {
			off := a.off % 512
			p.send(join(chunk(a, 0, chunkData, a.off, noise[off:off+uint64(a.length)]), done(a)))
		}
	}))
	var wg sync.WaitGroup
	for w := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, w))
			for range 200 {
				off, p := r.Int64N(1<<20), make([]byte, 1+r.IntN(100_000))
				ctx, cancel := context.WithCancel(t.Context())
				if w%2 == 0 {
					go cancel()
				}
				switch err := c.Read(ctx, p, off); {
				case err != nil && (w%2 == 1 || !errors.Is(err, context.Canceled)):
					t.Errorf("Read = %v", err)
				case err == nil && !bytes.Equal(p, noise[off%512:][:len(p)]):
					t.Errorf("Read of %d bytes at %d gave others than were sent", len(p), off)
				}
				clear(p)
				cancel()
			}
		})
	}
	wg.Wait()
}

// A listener without a client's reader: what Dial leaves behind ends with it.
func TestDialLeavesNoConnectionBehind(t *testing.T) {
	hung := make(chan error, 1)
	o := scripted(t, spoilt(optGo, func(p *peer) {
		p.reply(optGo, repUnknown)
		option, _ := p.option()
		if option != optAbort {
			t.Errorf("the server hears option %d, want a goodbye", option)
		}
		_, err := p.conn.Read(make([]byte, 1))
		hung <- err
	}))
	if _, err := Dial(t.Context(), o); !errors.Is(err, ErrRefused) {
		t.Errorf("Dial = %v, want %v", err, ErrRefused)
	}
	if err := <-hung; err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection goes on: %v", err)
	}
}

// A server that takes the rest within the grace keeps its connection, and for
// good: the deadline of the grace is lifted.
func TestAWriteThatIsGivenUpAndTakenKeepsTheConnection(t *testing.T) {
	t.Parallel()
	arrived, taken := make(chan struct{}), make(chan struct{})
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		first := p.take(1)
		close(arrived)
		<-taken
		p.conn = &rewound{p.conn, first}
		for a, ok := p.request(); ok && a.command != cmdDisconnect; a, ok = p.request() {
			p.send(done(a))
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
		for hurried := false; !hurried; runtime.Gosched() {
			c.mu.Lock()
			hurried = c.hurried
			c.mu.Unlock()
		}
		close(taken)
	}()
	if err := c.Write(ctx, make([]byte, 8<<20), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Write = %v, want %v", err, context.Canceled)
	}
	<-time.After(sendGrace) // the deadline would pass
	if err := c.Flush(t.Context()); err != nil {
		t.Errorf("the next request = %v", err)
	}
}

// rewound is a connection of which some bytes were read already.
type rewound struct {
	net.Conn
	first []byte
}

func (r *rewound) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	r.first = r.first[n:]
	return n, nil
}

func TestAnswersThatCameLateAreNoLongerOwed(t *testing.T) {
	arrived, late := make(chan struct{}), make(chan struct{})
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok && a.command != cmdDisconnect; a, ok = p.request() {
			arrived <- struct{}{}
			<-late
			p.send(done(a))
		}
	}))
	for range maxOrphans + 2 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		if err := c.Flush(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Flush = %v, want %v", err, context.Canceled)
		}
		late <- struct{}{}
	}
	go func() { <-arrived; late <- struct{}{} }()
	if err := c.Flush(t.Context()); err != nil {
		t.Errorf("Flush = %v", err)
	}
}

// A pipe takes nothing that is not read.
func TestACloseDoesNotWaitForADeafServer(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newClient(ours, ours, export{})
	go c.read()
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}
