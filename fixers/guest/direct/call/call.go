// Package call lets a process ask another one to do things, over a socket, one thing
// at a time. An answer that does not come in time, or a socket that ends, is an error
// like any other; afterwards nothing more can be asked. What the other one logs
// meanwhile comes with its answer.
package call

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is another process that does not answer any more.
var ErrGone = errors.New("no answer")

// request goes before the arguments of what is asked.
type request struct {
	Op     string
	Cancel bool // nothing is asked: what was asked last is to end
}

// reply goes before the result, which follows if nothing failed.
type reply struct {
	Failure *failure
	Log     []record
}

// Caller asks. One goroutine uses it at a time.
type Caller struct {
	socket net.Conn
	bound  *bounded
	in     *gob.Decoder
	out    *writer
	log    *slog.Logger
	known  []error
	gone   error // why nothing can be asked any more
}

// NewCaller asks through a socket. What the other end logs goes to log; errs are
// those that its server was made with.
func NewCaller(socket net.Conn, log *slog.Logger, errs ...error) *Caller {
	bound := &bounded{from: socket}
	return &Caller{socket: socket, bound: bound, in: newReader(bound), out: newWriter(socket), log: log, known: known(errs)}
}

// Close ends the conversation, also beside a call, which then is ErrGone. The other end
// sees that. Closing twice is harmless.
func (c *Caller) Close() error {
	if err := c.socket.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// ended gives up and says why.
func (c *Caller) ended(op string, limit time.Duration, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w to %s within %v", ErrGone, op, limit)
	case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		err = fmt.Errorf("%w to %s", ErrGone, op)
	default:
		err = fmt.Errorf("%w to %s that could be read: %w", ErrGone, op, err)
	}
	c.gone = err
	return err
}

// endWait is how long an answer may take when it was asked to end.
const endWait = 15 * time.Second

// Do asks for something and returns the answer: within limit, or soon after ctx
// ends, whose cause is the error then. An error of ErrGone is the end of it all;
// others are what was answered, and wrap what the other end's wrapped, as far as
// that is among the known errors.
func Do[R any](ctx context.Context, c *Caller, op string, args any, limit time.Duration) (result R, err error) {
	if c.gone != nil {
		return result, c.gone
	}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	c.bound.left = maxAnswer
	err = errors.Join(c.socket.SetDeadline(time.Now().Add(limit)), c.out.send(request{Op: op}, args))
	if err != nil {
		return result, c.ended(op, limit, err)
	}
	failed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		failed <- errors.Join(c.socket.SetDeadline(time.Now().Add(endWait)), c.out.send(request{Cancel: true}))
	})
	answer, err := receive[R](c)
	if !stop() {
		err = errors.Join(<-failed, err)
	}
	for _, r := range answer.Log {
		r.tell(ctx, c.log)
	}
	switch {
	case err != nil:
		return result, c.ended(op, limit, err)
	case ctx.Err() != nil && answer.Failure != nil:
		return result, context.Cause(ctx)
	case answer.Failure != nil:
		answer.Failure.known = c.known
		return result, answer.Failure
	}
	return answer.result, nil
}

type answer[R any] struct {
	reply
	result R
}

func receive[R any](c *Caller) (a answer[R], err error) {
	if err := c.in.Decode(&a.reply); err != nil {
		return a, err
	}
	if a.Failure == nil {
		err = c.in.Decode(&a.result)
	}
	return a, err
}
