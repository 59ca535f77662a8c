package nbd

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// Allocation is the metadata context that tells holes and zeroes from data.
const Allocation = "base:allocation"

// Flags of Allocation's extents. Source: doc/proto.md, "base:allocation".
const (
	Hole uint32 = 1 << 0 // takes no space; what it reads as is said by Zero alone
	Zero uint32 = 1 << 1 // reads as zeroes
)

// Extent is a run of bytes that a context says the same of.
type Extent struct {
	Length int64  // bytes, more than 0
	Flags  uint32 // as the context defines them
}

// Extents are what a context says of a beginning of the n bytes from off, in
// order: at least one, and no byte beyond n. A server may say less than was
// asked; the caller then asks from where the last extent ends. Neighbours
// differ in their flags, and begin and end with blocks: where the server's do
// not, a block has those flags of Allocation that all its parts have, and those
// of other contexts that any has. Without the context: ErrNoContext.
func (c *Client) Extents(ctx context.Context, name string, off, n int64) ([]Extent, error) {
	if err := c.check("block status", off, n, true); err != nil {
		return nil, err
	}
	number := slices.IndexFunc(c.export.contexts, func(m meta) bool { return m.name == name })
	if number < 0 {
		return nil, fmt.Errorf("%w: %q", ErrNoContext, name)
	}
	if n == 0 {
		return nil, nil
	}
	n = min(n, maxEffect)
	r := newRequest(cmdBlockStatus, 0, off, n)
	r.context = number
	if err := c.do(ctx, r); err != nil {
		return nil, fail("block status", off, n, err)
	}
	return inBlocks(r.extents, c.export.minimum, name == Allocation), nil
}

// status takes what one context says. That may reach beyond the request, and is
// then cut. Source: doc/proto.md, NBD_REPLY_TYPE_BLOCK_STATUS.
func (c *Client) status(r *request, count int64) error {
	head, err := c.peek(4)
	if err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(head)
	c.in.Discard(4)
	number := slices.IndexFunc(c.export.contexts, func(m meta) bool { return m.id == id })
	if number < 0 || r.seen&(1<<number) != 0 {
		return broken("a block status of metadata context %d, which comes twice or was not agreed on", id)
	}
	r.seen |= 1 << number
	if number != r.context {
		return c.skip(count * 8)
	}
	left := r.length
	for range count {
		b, err := c.peek(8)
		if err != nil {
			return err
		}
		length, flags := int64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		c.in.Discard(8)
		if length == 0 {
			return broken("a block status of no bytes")
		}
		length = min(length, left)
		left -= length
		r.extents = appendExtent(r.extents, Extent{length, flags})
	}
	return nil
}

// appendExtent joins what the same is said of.
func appendExtent(all []Extent, e Extent) []Extent {
	last := len(all) - 1
	switch {
	case e.Length == 0:
		return all
	case last >= 0 && all[last].Flags == e.Flags:
		all[last].Length += e.Length
		return all
	}
	return append(all, e)
}

// inBlocks makes extents begin and end with blocks. A last block of which only a
// part is known is left out, unless it is all that there is.
func inBlocks(all []Extent, block int64, allocation bool) []Extent {
	if !slices.ContainsFunc(all, func(e Extent) bool { return e.Length%block != 0 }) {
		return all
	}
	var whole []Extent
	var part Extent // of a block that is not yet whole
	for _, e := range all {
		if part.Length > 0 {
			taken := min(e.Length, block-part.Length)
			part = Extent{part.Length + taken, mixed(part.Flags, e.Flags, allocation)}
			e.Length -= taken
			if part.Length == block {
				whole, part = appendExtent(whole, part), Extent{}
			}
		}
		if rest := e.Length % block; rest > 0 {
			part = Extent{rest, e.Flags}
			e.Length -= rest
		}
		whole = appendExtent(whole, e)
	}
	if len(whole) > 0 {
		return whole
	}
	return []Extent{{block, mixed(part.Flags, 0, allocation)}}
}

// mixed is what is true of a block when two things are said of its parts.
func mixed(a, b uint32, allocation bool) uint32 {
	if allocation {
		return a & b
	}
	return a | b
}
