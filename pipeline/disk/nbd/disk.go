package nbd

import (
	"context"
	"fmt"
	"syscall"
)

// ZeroFlags say how to zero; they are joined by |.
type ZeroFlags uint16

// The flags of Zero. Source: doc/proto.md, "Command flags".
const (
	// FUA makes the server answer when the zeroes are on stable storage.
	FUA ZeroFlags = 1 << 0
	// NoHole keeps space for the range: later writes to it cannot want for any.
	NoHole ZeroFlags = 1 << 1
	// Fast makes the server refuse with ENOTSUP, at once, what would take it as
	// long as writing.
	Fast ZeroFlags = 1 << 4
)

// Read fills p from offset off: the whole of it, or an error, and then what is
// in p is anything. When ctx ends first, the error is its cause, p is no longer
// written to, the answer is dropped when it comes, and the connection goes on;
// it ends only where the server does not even take the question within a second.
// The server's errno is in the error, as of all requests: errors.Is(err,
// syscall.EIO). What is over the maximum block size is asked for in turn.
func (c *Client) Read(ctx context.Context, p []byte, off int64) error {
	if err := c.check("read", off, int64(len(p)), true); err != nil {
		return err
	}
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), c.export.maximum)]
		r := newRequest(cmdRead, 0, off, int64(len(piece)))
		r.into = piece
		if err := c.do(ctx, r); err != nil {
			return fail("read", off, int64(len(piece)), err)
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	return nil
}

// Write writes p at offset off; it is on stable storage after a Flush. When ctx
// ends first, the error is its cause and the write may still take effect; if the
// server then does not take the rest of p within a second, the connection ends
// too. p may be changed when Write has returned, however it did.
func (c *Client) Write(ctx context.Context, p []byte, off int64) error {
	if err := c.check("write", off, int64(len(p)), !c.Features().ReadOnly); err != nil {
		return err
	}
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), c.export.maximum)]
		r := newRequest(cmdWrite, 0, off, int64(len(piece)))
		r.payload = piece
		if err := c.do(ctx, r); err != nil {
			return fail("write", off, int64(len(piece)), err)
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	return nil
}

// Zero makes n bytes from off read as zeroes; the server may punch a hole,
// unless NoHole is set. A server that cannot, or not fast when Fast is set, gives
// ENOTSUP: the caller writes zeroes. ctx is as for Write.
func (c *Client) Zero(ctx context.Context, off, n int64, flags ZeroFlags) error {
	f := c.Features()
	if err := c.check("zero", off, n, !f.ReadOnly); err != nil {
		return err
	}
	if !f.Zero || flags&Fast != 0 && !f.FastZero || flags&FUA != 0 && !f.FUA {
		return fail("zero", off, n, syscall.ENOTSUP)
	}
	return c.effect(ctx, "zero", cmdWriteZeroes, uint16(flags), off, n)
}

// Trim tells the server that n bytes from off are no longer needed; what they
// read as afterwards is not known. A server that cannot gives ENOTSUP.
func (c *Client) Trim(ctx context.Context, off, n int64) error {
	f := c.Features()
	if err := c.check("trim", off, n, !f.ReadOnly); err != nil {
		return err
	}
	if !f.Trim {
		return fail("trim", off, n, syscall.ENOTSUP)
	}
	return c.effect(ctx, "trim", cmdTrim, 0, off, n)
}

// Flush returns when every write that was answered before is on stable storage.
// A server that cannot promise so gives ENOTSUP.
func (c *Client) Flush(ctx context.Context) error {
	if !c.Features().Flush {
		return fmt.Errorf("nbd: flush: %w", syscall.ENOTSUP)
	}
	if err := c.do(ctx, newRequest(cmdFlush, 0, 0, 0)); err != nil {
		return fmt.Errorf("nbd: flush: %w", err)
	}
	return nil
}

// effect sends a command without data, in pieces that 32 bits can tell of.
func (c *Client) effect(ctx context.Context, what string, command, flags uint16, off, n int64) error {
	for n > 0 {
		piece := min(n, maxEffect)
		if err := c.do(ctx, newRequest(command, flags, off, piece)); err != nil {
			return fail(what, off, piece, err)
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// check refuses what a server would refuse, or might not: a range outside of the
// export or out of step with its blocks, and a write to what is read-only.
func (c *Client) check(what string, off, n int64, allowed bool) error {
	e := c.export
	switch {
	case off < 0 || n < 0 || off > e.size || n > e.size-off:
		return fail(what, off, n, fmt.Errorf("%w: outside of an export of %d bytes", syscall.EINVAL, e.size))
	case off%e.minimum != 0 || n%e.minimum != 0:
		return fail(what, off, n, fmt.Errorf("%w: not in whole blocks of %d bytes", syscall.EINVAL, e.minimum))
	case !allowed:
		return fail(what, off, n, fmt.Errorf("%w: the export is read-only", syscall.EPERM))
	}
	return nil
}

func fail(what string, off, n int64, err error) error {
	return fmt.Errorf("nbd: %s of %d bytes at %d: %w", what, n, off, err)
}
