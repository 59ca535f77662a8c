package nbd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
)

func TestRequestsAreInFlightTogether(t *testing.T) {
	const n = 16
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		var all []asked // no answer before every request is there
		for range n {
			a, _ := p.request()
			all = append(all, a)
		}
		slices.Reverse(all)
		for _, a := range all {
			p.send(join(chunk(a, 0, chunkData, a.off, bytes.Repeat([]byte{byte(a.off >> 9)}, 512)), done(a)))
		}
		p.drain()
	}))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			p := make([]byte, 512)
			if err := c.Read(t.Context(), p, int64(i)*512); err != nil || bytes.Count(p, []byte{byte(i)}) != 512 {
				t.Errorf("Read %d = %v, %v…", i, err, p[:4])
			}
		})
	}
	wg.Wait()
}

func TestPiecesInAnyOrderMakeTheWhole(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := bytes.Clone(noise[:lieLen])
		c := dial(t, scripted(t, func(p *peer) {
			p.negotiate(terms{size: 1 << 30, flags: everything})
			a, _ := p.request()
			var pieces [][]byte
			for at := 0; at < lieLen; {
				n := 1 + r.IntN(min(1000, lieLen-at))
				if r.IntN(2) == 0 {
					clear(want[at : at+n])
					pieces = append(pieces, hole(a, lieAt+uint64(at), uint32(n)))
				} else {
					pieces = append(pieces, chunk(a, 0, chunkData, lieAt+uint64(at), want[at:at+n]))
				}
				at += n
			}
			r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			p.send(join(append(pieces, done(a))...))
			p.drain()
		}))
		got := bytes.Repeat([]byte{0x55}, lieLen)
		if err := c.Read(t.Context(), got, lieAt); err != nil || !bytes.Equal(got, want) {
			t.Errorf("order %d: Read = %v, or other bytes than were sent", seed, err)
		}
	}
}

func TestLongRequestsAreSplit(t *testing.T) {
	const size = 5 << 32
	answered := func(command uint16) func(p *peer) {
		return func(p *peer) {
			p.negotiate(terms{size: size, flags: everything, blocks: [3]uint32{512, 4096, 10000}})
			for at := uint64(512); ; {
				a, ok := p.request()
				if !ok || a.command == cmdDisconnect {
					return
				}
				if a.command != command || a.off != at || a.off%512 != 0 || a.length%512 != 0 {
					t.Errorf("the client asks %+v, after all up to %d", a, at)
				}
				at += uint64(a.length)
				if command == cmdRead {
					p.send(chunk(a, 0, chunkData, a.off, noise[a.off:a.off+uint64(a.length)]))
				}
				if command == cmdWrite && !bytes.Equal(a.payload, noise[a.off:a.off+uint64(a.length)]) {
					t.Errorf("other bytes come at %d than were written", a.off)
				}
				p.send(done(a))
			}
		}
	}
	got := make([]byte, 50<<10)
	if err := dial(t, scripted(t, answered(cmdRead))).Read(t.Context(), got, 512); err != nil || !bytes.Equal(got, noise[512:512+len(got)]) {
		t.Errorf("Read = %v, or other bytes than were sent", err)
	}
	if err := dial(t, scripted(t, answered(cmdWrite))).Write(t.Context(), noise[512:50<<10], 512); err != nil {
		t.Errorf("Write = %v", err)
	}
	if err := dial(t, scripted(t, answered(cmdWriteZeroes))).Zero(t.Context(), 512, size-512, 0); err != nil {
		t.Errorf("Zero = %v", err)
	}
	if err := dial(t, scripted(t, answered(cmdTrim))).Trim(t.Context(), 512, size-512); err != nil {
		t.Errorf("Trim = %v", err)
	}
}

func TestFlagsReachTheServer(t *testing.T) {
	flags := make(chan uint16, 1)
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok; a, ok = p.request() {
			flags <- a.flags
			p.send(done(a))
		}
	}))
	for _, f := range []ZeroFlags{0, FUA, NoHole, Fast, FUA | NoHole | Fast} {
		if err := c.Zero(t.Context(), 0, 512, f); err != nil {
			t.Error(err)
		}
		if got := <-flags; got != uint16(f) {
			t.Errorf("Zero(%b) sends the flags %b", f, got)
		}
	}
}

func TestWhatAServerCannotIsNotSent(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: hasFlags | sendFastZero})
		if a, ok := p.request(); ok && a.command != cmdDisconnect {
			t.Errorf("the client asks %+v", a)
		}
	}))
	for name, err := range map[string]error{
		"Zero": c.Zero(t.Context(), 0, 512, 0), "fast Zero": c.Zero(t.Context(), 0, 512, Fast),
		"Trim": c.Trim(t.Context(), 0, 512), "Flush": c.Flush(t.Context()),
	} {
		if !errors.Is(err, syscall.ENOTSUP) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s = %v, want %v", name, err, syscall.ENOTSUP)
		}
	}
}

func TestNothingIsWrittenToAReadOnlyExport(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything | readOnly})
		if a, ok := p.request(); ok && a.command != cmdDisconnect {
			t.Errorf("the client asks %+v", a)
		}
	}))
	for name, err := range map[string]error{
		"Write": c.Write(t.Context(), make([]byte, 512), 0), "Zero": c.Zero(t.Context(), 0, 512, 0), "Trim": c.Trim(t.Context(), 0, 512),
	} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s = %v, want %v", name, err, syscall.EPERM)
		}
	}
}

func TestRequestsOfNothingAreNotSent(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 20, flags: everything})
		if a, ok := p.request(); ok && a.command != cmdDisconnect {
			t.Errorf("the client asks %+v", a)
		}
	}))
	all, err := c.Extents(t.Context(), Allocation, 1<<20, 0)
	if err := errors.Join(err, c.Read(t.Context(), nil, 1<<20), c.Write(t.Context(), nil, 0), c.Zero(t.Context(), 0, 0, 0), c.Trim(t.Context(), 0, 0)); err != nil || all != nil {
		t.Errorf("requests of nothing = %v, %v", all, err)
	}
}

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
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		if a, ok := p.request(); ok && a.command != cmdDisconnect {
			t.Errorf("the client asks %+v", a)
		}
	}))
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
