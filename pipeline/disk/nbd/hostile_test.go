package nbd

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lie is a server's answer to the first request of a kind, which is of 8 KiB at
// 64 KiB, or of everything.
type lie struct {
	name, says string
	request    string // read, write, flush, extents
	answer     func(a asked) []byte
}

const (
	lieAt  = 64 << 10
	lieLen = 8 << 10
)

// join is messages one after the other.
func join(messages ...[]byte) []byte { return bytes.Join(messages, nil) }

func data(a asked, off uint64, n int) []byte {
	return chunk(a, 0, chunkData, off, bytes.Repeat([]byte{0xee}, n))
}

func hole(a asked, off uint64, n uint32) []byte { return chunk(a, 0, chunkHole, off, n) }

// announced is a chunk's header with a length that is only announced.
func announced(a asked, kind uint16, length uint32, begin ...any) []byte {
	return append(be(uint32(structuredMagic), uint16(0), kind, a.cookie, length), be(begin...)...)
}

var lies = []lie{
	{"another magic", "begins with 0x1020304", "read", func(a asked) []byte { return be(uint32(0x01020304), make([]byte, 28)) }},
	{"a reply to nothing", "waits for none", "read", func(a asked) []byte { a.cookie += 7; return done(a) }},
	{"a simple reply to nothing", "waits for none", "flush", func(a asked) []byte { a.cookie--; return simple(a, 0) }},
	{"a reply twice", "waits for none", "flush", func(a asked) []byte { a.cookie++; return join(done(a), done(a)) }},
	{"data before the request", "at 65535 in a read", "read", func(a asked) []byte { return join(data(a, lieAt-1, 16), done(a)) }},
	{"data long before the request", "at 0 in a read", "read", func(a asked) []byte { return join(data(a, 0, 16), done(a)) }},
	{"data across the request's end", "in a read", "read", func(a asked) []byte { return join(data(a, lieAt+lieLen-15, 16), done(a)) }},
	{"data behind the request", "in a read", "read", func(a asked) []byte { return join(data(a, lieAt+lieLen, 1), done(a)) }},
	{"data at the end of the world", "in a read", "read", func(a asked) []byte { return join(data(a, ^uint64(0), 1), done(a)) }},
	{"data of 4 GiB", "of 4294967287 bytes", "read", func(a asked) []byte { return announced(a, chunkData, ^uint32(0), a.off) }},
	{"data of no bytes", "type 1, 8 bytes", "read", func(a asked) []byte { return join(chunk(a, 0, chunkData, a.off), done(a)) }},
	{"data without an offset", "type 1, 4 bytes", "read", func(a asked) []byte { return chunk(a, 0, chunkData, uint32(0)) }},
	{"data twice", "comes twice", "read", func(a asked) []byte { return join(data(a, lieAt, lieLen), data(a, lieAt, 1), done(a)) }},
	{"data that overlaps behind", "comes twice", "read", func(a asked) []byte { return join(data(a, lieAt, 100), data(a, lieAt+99, 9), done(a)) }},
	{"data that overlaps before", "comes twice", "read", func(a asked) []byte { return join(data(a, lieAt+100, 100), data(a, lieAt+90, 11), done(a)) }},
	{"data that overlaps behind a join", "comes twice", "read", func(a asked) []byte {
		return join(data(a, lieAt+100, 100), data(a, lieAt, 50), data(a, lieAt+50, 51), done(a))
	}},
	{"data around what is there", "comes twice", "read", func(a asked) []byte { return join(data(a, lieAt+100, 10), data(a, lieAt, lieLen), done(a)) }},
	{"a hole over data", "comes twice", "read", func(a asked) []byte { return join(data(a, lieAt, 100), hole(a, lieAt, lieLen), done(a)) }},
	{"a hole of no bytes", "of 0 bytes", "read", func(a asked) []byte { return join(hole(a, lieAt, 0), done(a)) }},
	{"a hole of 4 GiB", "of 4294967295 bytes", "read", func(a asked) []byte { return hole(a, lieAt, ^uint32(0)) }},
	{"a hole with more in it", "type 2, 13 bytes", "read", func(a asked) []byte { return chunk(a, 0, chunkHole, a.off, uint32(1), byte(1)) }},
	{"an end without the beginning", "some of them missing", "read", func(a asked) []byte { return join(data(a, lieAt+1, lieLen-1), done(a)) }},
	{"an end without the end", "some of them missing", "read", func(a asked) []byte { return join(data(a, lieAt, lieLen-1), done(a)) }},
	{"an end with a gap", "some of them missing", "read", func(a asked) []byte {
		return join(data(a, lieAt, 100), hole(a, lieAt+101, lieLen-101), done(a))
	}},
	{"an end without anything", "some of them missing", "read", done},
	{"an end that goes on", "type 0", "read", func(a asked) []byte { return chunk(a, 0, chunkNone) }},
	{"an end with data", "type 0, 4 bytes", "read", func(a asked) []byte { return chunk(a, replyDone, chunkNone, uint32(0)) }},
	{"a simple reply to a read", "has a structured one", "read", func(a asked) []byte { return simple(a, 0, make([]byte, lieLen)) }},
	{"a simple end of a structured reply", "ends a structured one", "read", func(a asked) []byte { return join(data(a, lieAt, 1), simple(a, 0)) }},
	{"a block status of a read", "type 5", "read", func(a asked) []byte { return chunk(a, 0, chunkStatus, uint32(7), uint32(1), uint32(0)) }},
	{"a chunk of a later protocol", "type 6", "read", func(a asked) []byte { return chunk(a, 0, 6) }},
	{"an error of no number", "error 0", "read", func(a asked) []byte { return chunk(a, replyDone, chunkIsError+1, uint32(0), uint16(0)) }},
	{"an error that is cut short", "type 32769, 4 bytes", "write", func(a asked) []byte { return chunk(a, replyDone, chunkIsError+1, uint32(5)) }},
	{"an error of 4 GiB", "type 32769", "write", func(a asked) []byte { return announced(a, chunkIsError+1, ^uint32(0), uint32(5), uint16(9)) }},
	{"an error with a text beyond its end", "text of 9 bytes", "write", func(a asked) []byte {
		return chunk(a, replyDone, chunkIsError+1, uint32(5), uint16(9), "eight   ")
	}},
	{"an error whose text covers the offset", "text of 4 bytes", "write", func(a asked) []byte {
		return chunk(a, replyDone, chunkErrorOffset, uint32(5), uint16(4), "text", uint32(0))
	}},
	{"data for a write", "type 1", "write", func(a asked) []byte { return join(data(a, lieAt, 1), done(a)) }},
	{"a hole for a flush", "type 2", "flush", func(a asked) []byte { return join(hole(a, 0, 1), done(a)) }},
	{"a simple reply to a block status", "has a structured one", "extents", func(a asked) []byte { return simple(a, 0) }},
	{"a block status that says nothing", "without the metadata context", "extents", done},
	{"a block status of another context", "without the metadata context", "extents", func(a asked) []byte {
		return join(chunk(a, 0, chunkStatus, uint32(8), uint32(lieLen), uint32(0)), done(a))
	}},
	{"a block status of an unknown context", "context 1", "extents", func(a asked) []byte {
		return chunk(a, 0, chunkStatus, uint32(1), uint32(lieLen), uint32(0))
	}},
	{"a block status twice", "comes twice", "extents", func(a asked) []byte {
		one := chunk(a, 0, chunkStatus, uint32(7), uint32(lieLen), uint32(0))
		return join(one, one, done(a))
	}},
	{"an extent of no bytes", "of no bytes", "extents", func(a asked) []byte {
		return chunk(a, 0, chunkStatus, uint32(7), uint32(512), uint32(0), uint32(0), uint32(0))
	}},
	{"no extent", "type 5, 4 bytes", "extents", func(a asked) []byte { return chunk(a, 0, chunkStatus, uint32(7)) }},
	{"half an extent", "type 5, 16 bytes", "extents", func(a asked) []byte {
		return chunk(a, 0, chunkStatus, uint32(7), uint32(1), uint32(0), uint32(1))
	}},
	{"extents of 4 GiB", "type 5, 4294967292 bytes", "extents", func(a asked) []byte { return announced(a, chunkStatus, ^uint32(3), uint32(7)) }},
	{"one extent too many", "type 5, 8388620 bytes", "extents", func(a asked) []byte {
		return announced(a, chunkStatus, 4+8*(maxExtents+1), uint32(7))
	}},
}

// ask makes a lie's request, and finds whether it wrote outside of its buffer.
func (l lie) ask(t *testing.T, ctx context.Context, c *Client) error {
	t.Helper()
	around := bytes.Repeat([]byte{0x55}, 3*lieLen)
	p := around[lieLen : 2*lieLen : 2*lieLen]
	var err error
	switch l.request {
	case "read":
		err = c.Read(ctx, p, lieAt)
	case "write":
		err = c.Write(ctx, p, lieAt)
	case "flush":
		err = c.Flush(ctx)
	case "extents":
		_, err = c.Extents(ctx, Allocation, lieAt, lieLen)
	}
	if strings.Trim(string(around[:lieLen])+string(around[2*lieLen:]), "\x55") != "" {
		t.Error("bytes beside the buffer were written to")
	}
	return err
}

func TestALieEndsTheConnection(t *testing.T) {
	for _, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			c := dial(t, scripted(t, func(p *peer) {
				p.negotiate(terms{size: 1 << 30, flags: everything, more: []string{"x:other"}})
				if a, ok := p.request(); ok {
					p.send(l.answer(a))
					p.drain()
				}
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // for a lie that is believed
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := l.ask(t, ctx, c)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), l.says) {
				t.Errorf("%s = %v, want %v and %q", l.request, err, ErrProtocol, l.says)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
				t.Errorf("%d bytes of memory were taken", took)
			}
			if again := c.Flush(ctx); !errors.Is(again, ErrProtocol) {
				t.Errorf("the next request = %v, want %v", again, ErrProtocol)
			}
		})
	}
}

func TestAReplyInPiecesWithoutEndIsBounded(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		a, _ := p.request()
		for off := uint64(0); off < uint64(a.length) && p.send(data(a, off, 1)); off += 2 {
		}
		p.send(done(a))
		p.drain()
	}))
	err := c.Read(t.Context(), make([]byte, 2*maxSpans+2), 0)
	if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "too many pieces") {
		t.Errorf("Read = %v, want %v", err, ErrProtocol)
	}
}

func TestAStructuredReplyThatWasNotAgreedOnIsALie(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything, simple: true})
		if a, ok := p.request(); ok {
			p.send(done(a))
			p.drain()
		}
	}))
	if err := c.Flush(t.Context()); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "not agreed on") {
		t.Errorf("Flush = %v, want %v", err, ErrProtocol)
	}
}

func TestAServerThatHangsUpInAReplyMayBeTriedAgain(t *testing.T) {
	answer := func(a asked) []byte {
		return join(hole(a, lieAt, 50), data(a, lieAt+50, 50), hole(a, lieAt+100, lieLen-100), done(a))
	}
	length, sent := len(answer(asked{})), -1
	o := scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		a, _ := p.request()
		sent++
		p.send(answer(a)[:sent])
	})
	for sent := range length {
		c := dial(t, o)
		err := lie{request: "read"}.ask(t, t.Context(), c)
		if !errors.Is(err, ErrDisconnected) {
			t.Errorf("Read of a reply that ends after %d bytes = %v, want %v", sent, err, ErrDisconnected)
		}
		var errno syscall.Errno
		if errors.As(err, &errno) {
			t.Errorf("the connection's %v looks like the disk's", errno)
		}
	}
}

func TestAServersErrorIsTheRequestsAlone(t *testing.T) {
	long := strings.Repeat("long story ", 1000)
	tests := []struct {
		name, says string
		request    string
		want       syscall.Errno
		answer     func(a asked) []byte
	}{
		{"an error", "input/output error", "write", syscall.EIO, func(a asked) []byte { return simple(a, 5) }},
		{"a simple error of a read", "input/output error", "read", syscall.EIO, func(a asked) []byte { return simple(a, 5) }},
		{"a simple error of a block status", "invalid", "extents", syscall.EINVAL, func(a asked) []byte { return simple(a, 22) }},
		{"an error with a text", "full to the brim", "write", syscall.ENOSPC, func(a asked) []byte {
			return chunk(a, replyDone, chunkIsError+1, uint32(28), uint16(19), "full\nto\x00the\x1bbrim   ")
		}},
		{"an error with an offset", "bad block", "read", syscall.EIO, func(a asked) []byte {
			return join(data(a, lieAt, 100), chunk(a, 0, chunkErrorOffset, uint32(5), uint16(9), "bad block", uint64(lieAt+9)), hole(a, lieAt+100, 9), done(a))
		}},
		{"the first of two errors", "operation not permitted: first", "read", syscall.EPERM, func(a asked) []byte {
			return join(chunk(a, 0, chunkIsError+1, uint32(1), uint16(5), "first"), chunk(a, replyDone, chunkIsError+1, uint32(5), uint16(6), "second"))
		}},
		{"an error of a later protocol", "later", "flush", syscall.EIO, func(a asked) []byte {
			return chunk(a, replyDone, chunkIsError+99, uint32(5), uint16(5), "later", make([]byte, 99))
		}},
		{"a number that is not known", "invalid argument", "flush", syscall.EINVAL, func(a asked) []byte { return simple(a, 4711) }},
		{"a long text", "long story", "flush", syscall.ENOMEM, func(a asked) []byte {
			return chunk(a, replyDone, chunkIsError+1, uint32(12), uint16(len(long)), long)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t, scripted(t, func(p *peer) {
				p.negotiate(terms{size: 1 << 30, flags: everything})
				if a, ok := p.request(); ok {
					p.send(test.answer(a))
				}
				if a, ok := p.request(); ok {
					p.send(done(a))
				}
				p.request()
			}))
			err := lie{request: test.request}.ask(t, t.Context(), c)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || errors.Is(err, ErrDisconnected) || len(err.Error()) > maxText+200 {
				t.Errorf("%s = %v, want %v and %q", test.request, err, test.want, test.says)
			}
			if err := c.Flush(t.Context()); err != nil {
				t.Errorf("the next request = %v", err)
			}
		})
	}
}

func TestAServerThatShutsDownGetsNoMoreRequests(t *testing.T) {
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		a, _ := p.request()
		p.send(simple(a, uint32(syscall.ESHUTDOWN)))
		if a, ok := p.request(); ok {
			t.Errorf("the server gets %+v", a)
		}
	}))
	if err := c.Flush(t.Context()); !errors.Is(err, ErrDisconnected) || !errors.Is(err, syscall.ESHUTDOWN) {
		t.Errorf("Flush = %v, want %v and %v", err, ErrDisconnected, syscall.ESHUTDOWN)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Flush = %v, want %v", err, ErrDisconnected)
	}
}

func TestAnswersThatNobodyWaitsForAreBounded(t *testing.T) {
	all := make(chan struct{})
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for range maxOrphans + 1 {
			p.request()
		}
		close(all)
		p.drain()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan error)
	for range maxOrphans + 1 {
		go func() { answers <- c.Flush(ctx) }()
	}
	<-all
	cancel()
	for range maxOrphans + 1 {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("Flush = %v, want %v", err, context.Canceled)
		}
	}
	if err := c.Flush(t.Context()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Flush = %v, want %v", err, ErrDisconnected)
	}
}
