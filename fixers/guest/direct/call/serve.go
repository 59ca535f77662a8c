package call

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
)

// Server answers what was given to it by Handle.
type Server struct {
	ops   map[string]op
	log   *records
	known []error
}

// op reads the arguments of a call and returns what makes it.
type op func(args *gob.Decoder) (func(context.Context) (any, error), error)

// NewServer makes a server that can answer nothing yet. Errors that callers decide
// on, of those that it answers with, are the same list on both sides.
func NewServer(errs ...error) *Server {
	return &Server{ops: map[string]op{}, log: &records{}, known: known(errs)}
}

// Log is where to log: what is logged goes with the next answer.
func (s *Server) Log() *slog.Logger { return slog.New(handler{to: s.log}) }

// Handle lets a server answer calls of a name.
func Handle[A, R any](s *Server, name string, f func(context.Context, A) (R, error)) {
	s.ops[name] = func(in *gob.Decoder) (func(context.Context) (any, error), error) {
		var args A
		if err := in.Decode(&args); err != nil {
			return nil, err
		}
		return func(ctx context.Context) (any, error) { return f(ctx, args) }, nil
	}
}

// None is the arguments or the result of a call that has none.
type None struct{ Nothing bool }

var errCancelled = errors.New("the caller does not want it any more")

// Serve answers until the other end closes the socket. A call that is under way
// then is cancelled, and waited for.
func (s *Server) Serve(ctx context.Context, socket net.Conn) error {
	in, out := newReader(socket), newWriter(socket)
	last := begin(ctx, func(context.Context) error { return nil })
	for {
		run, err := s.next(in)
		switch {
		case err != nil:
			last.cancel(errCancelled)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, last.wait())
		case run == nil:
			last.cancel(errCancelled)
			continue
		}
		if err := last.wait(); err != nil {
			return err
		}
		last = begin(ctx, func(ctx context.Context) error { return s.answer(ctx, out, run) })
	}
}

// ServeInTurn answers like Serve, but hears of a cancellation only after the call. It
// takes a socket that blocks, and is quicker.
func (s *Server) ServeInTurn(ctx context.Context, socket io.ReadWriter) error {
	in, out := newReader(socket), newWriter(socket)
	for {
		run, err := s.next(in)
		if err == nil && run != nil {
			err = s.answer(ctx, out, run)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// turn is a call under way.
type turn struct {
	cancel context.CancelCauseFunc
	done   chan error
}

func begin(ctx context.Context, f func(context.Context) error) turn {
	ctx, cancel := context.WithCancelCause(ctx)
	t := turn{cancel, make(chan error, 1)}
	go func() { t.done <- f(ctx) }()
	return t
}

func (t turn) wait() error {
	defer t.cancel(nil)
	return <-t.done
}

// next reads what is asked; nil for a cancellation.
func (s *Server) next(in *gob.Decoder) (func(context.Context) (any, error), error) {
	var r request
	if err := in.Decode(&r); err != nil || r.Cancel {
		return nil, err
	}
	op, ok := s.ops[r.Op]
	if !ok {
		return nil, fmt.Errorf("there is no call %q", r.Op)
	}
	return op(in)
}

func (s *Server) answer(ctx context.Context, out *writer, run func(context.Context) (any, error)) error {
	result, err := run(ctx)
	if err != nil {
		return out.send(reply{Failure: failureOf(err, s.known), Log: s.log.take()})
	}
	return out.send(reply{Log: s.log.take()}, result)
}
