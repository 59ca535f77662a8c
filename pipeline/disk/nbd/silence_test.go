package nbd

import (
	"errors"
	"testing"
	"time"
)

// A server that takes a request and says no more is given up after the time that it may
// be silent, with all that waits for it.
func TestAServerThatFallsSilentIsGivenUp(t *testing.T) {
	t.Parallel()
	o := scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		a, _ := p.request()
		p.send(chunk(a, 0, chunkData, a.off, noise[:1000])) // a part of the answer
		p.drain()
	})
	o.Silence = 200 * time.Millisecond
	c := dial(t, o)
	for range 2 {
		if err := within(t, func() error { return c.Read(t.Context(), make([]byte, 4096), 0) }); !errors.Is(err, ErrSilent) {
			t.Errorf("Read = %v, want %v", err, ErrSilent)
		}
	}
}

func TestASilentNegotiationIsGivenUp(t *testing.T) {
	t.Parallel()
	o := scripted(t, (*peer).drain)
	o.Silence = 200 * time.Millisecond
	if err := within(t, func() error { _, err := Dial(t.Context(), o); return err }); !errors.Is(err, ErrSilent) {
		t.Errorf("Dial = %v, want %v", err, ErrSilent)
	}
}

// A server that sends an answer in small pieces, for longer than it may be silent, is
// waited for; so is one of which nothing is asked.
func TestASlowServerIsNotSilent(t *testing.T) {
	t.Parallel()
	const length, pieces = 4000, 20
	o := scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok && a.command == cmdRead; a, ok = p.request() {
			answer := join(chunk(a, 0, chunkData, a.off, noise[:length]), done(a))
			for n := len(answer) / pieces; len(answer) > 0; answer = answer[min(n, len(answer)):] {
				p.send(answer[:min(n, len(answer))])
				<-time.After(100 * time.Millisecond)
			}
		}
	})
	o.Silence = time.Second
	c := dial(t, o)
	for range 2 {
		if err := within(t, func() error { return c.Read(t.Context(), make([]byte, length), 0) }); err != nil {
			t.Errorf("Read = %v", err)
		}
		<-time.After(o.Silence + o.Silence/2)
	}
}

// within ends a test whose server is waited for without end.
func within(t *testing.T, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("it is waited for still")
		return nil
	}
}
