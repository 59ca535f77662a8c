// Package nbd is a client of the Network Block Device protocol, over Unix
// sockets and TCP: it reads and writes disks that nbdkit, qemu-nbd and
// qemu-storage-daemon serve, and asks them which parts hold data. It is a leaf
// that anyone may import.
//
// Export: a disk that a server offers, under a name. Client: one connection to
// one export. Request: one question, told apart by its cookie; many are in
// flight together. Chunk: a part of a structured reply. Context: a kind of
// metadata that a server keeps of an export, such as base:allocation. Extent: a
// run of bytes that a context says the same of.
//
// A server is not trusted: it cannot make the client write outside of a
// request's buffer, hold memory by its word, or wait beyond a request's context.
// Extended headers are not spoken, and nor is the old style of negotiation.
//
// Source: the NBD project, doc/proto.md.
package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Options say where an export is and what is asked of it.
type Options struct {
	Socket   string      // path of a Unix socket; or
	Address  string      // host:port
	Export   string      // name of the export; empty: the server's default one
	Contexts []string    // metadata contexts to ask for; nil: base:allocation
	TLS      *tls.Config // STARTTLS if not nil, and then nothing goes on without it
	// Silence is how long a server that owes an answer may send no byte; then the
	// connection ends with ErrSilent. It bounds the negotiation as a whole. Zero: for ever.
	Silence time.Duration
}

// Features are what a server said that it can do with the export.
type Features struct {
	ReadOnly   bool // writes are refused
	Flush      bool // Flush works
	FUA        bool // the flag FUA works
	Trim       bool // Trim works
	Zero       bool // Zero works
	FastZero   bool // Zero works with the flag Fast
	MultiConn  bool // a flush on one connection covers the writes of all
	Structured bool // replies are structured: holes are not sent, errors have texts
}

// Client is one connection to an export. Any number of goroutines may use it;
// their requests are in flight together. A connection that has ended stays so:
// the caller dials again.
type Client struct {
	export export
	conn   net.Conn // what is spoken through
	raw    net.Conn // the same, beneath TLS: closing it wakes everyone
	in     *bufio.Reader
	pulse  pulse

	// turn is held by the goroutine that sends, and with it what follows.
	turn   chan struct{}
	header [requestSize]byte
	vector [2][]byte
	parts  net.Buffers

	mu      sync.Mutex
	last    uint64              // cookie of the last request
	pending map[uint64]*request // by cookie
	orphans int                 // pending requests that nobody waits for
	sending uint64              // cookie of the request that is being sent, or 0
	hurried bool                // its context ended meanwhile
	err     error               // why the connection ended
	done    chan struct{}       // closed when the reader has ended
}

// Dial connects and negotiates: fixed newstyle, TLS if asked for, structured
// replies, metadata contexts, block sizes; a server that lacks one of the last
// three is used without. ctx bounds the negotiation alone. Errors: the system's
// when nobody answers (syscall.ECONNREFUSED, fs.ErrNotExist), ErrRefused when the
// server does not give the export, ErrProtocol, ErrDisconnected, or the cause of
// ctx.
func Dial(ctx context.Context, o Options) (*Client, error) {
	network, address := "unix", o.Socket
	if o.Socket == "" {
		network, address = "tcp", o.Address
	}
	if o.Silence > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, o.Silence, silent(o.Silence))
		defer cancel()
		ctx = limited
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	c, err := open(ctx, raw, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nbd: export %q at %s: %w", o.Export, address, err), raw.Close())
	}
	go c.read()
	if o.Silence > 0 {
		go c.listen(o.Silence)
	}
	return c, nil
}

// open negotiates over a connection. When ctx ends, so do its reads and writes.
func open(ctx context.Context, raw net.Conn, o Options) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(past) })
	h := handshake{conn: raw, o: o}
	err := h.negotiate(ctx)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return newClient(raw, h.conn, h.export), nil
}

func newClient(raw, conn net.Conn, e export) *Client {
	c := &Client{
		export:  e,
		conn:    conn,
		raw:     raw,
		turn:    make(chan struct{}, 1),
		pulse:   pulse{began: time.Now()},
		pending: map[uint64]*request{},
		done:    make(chan struct{}),
	}
	c.in = bufio.NewReaderSize(heard{conn, &c.pulse}, headersAtOnce)
	return c
}

// past is a deadline that has gone by: it wakes reads and writes.
var past = time.Unix(1, 0)

// Size is the export's size in bytes.
func (c *Client) Size() int64 { return c.export.size }

// Features are what the server said that it can do.
func (c *Client) Features() Features { return c.export.features() }

// BlockSize are the server's sizes in bytes. Offsets and lengths of requests are
// multiples of minimum, a power of two of at most 64 KiB; multiples of preferred
// are quicker. Read and Write split what is over maximum, which is at most
// 32 MiB, whatever the server would take.
func (c *Client) BlockSize() (minimum, preferred, maximum int64) {
	return c.export.minimum, c.export.preferred, c.export.maximum
}

// Contexts are the names of the metadata contexts that the server gave.
func (c *Client) Contexts() []string {
	var names []string
	for _, m := range c.export.contexts {
		names = append(names, m.name)
	}
	return names
}

// goodbye is how long Close tries to tell the server.
const goodbye = time.Second

// Close tells the server and closes the connection. Requests in flight end with
// ErrClosed, and their writes may still take effect. Closing twice is harmless.
func (c *Client) Close() error {
	c.mu.Lock()
	lives := c.err == nil
	if lives {
		c.err = ErrClosed
	}
	c.mu.Unlock()
	if lives {
		c.disconnect()
	}
	err := c.raw.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// disconnect says NBD_CMD_DISC, unless the server does not take what is being
// sent: it then hears of it by the connection's end.
func (c *Client) disconnect() {
	select {
	case c.turn <- struct{}{}:
	case <-time.After(goodbye):
		return
	}
	defer func() { <-c.turn }()
	_ = c.raw.SetWriteDeadline(time.Now().Add(goodbye)) // a server that is not told is not harmed
	request{command: cmdDisconnect}.encode(c.header[:], 0)
	_, _ = c.conn.Write(c.header[:])
}

// fail ends the connection. The reader then ends, and every request with it.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	_ = c.raw.Close() // it is lost either way
}
