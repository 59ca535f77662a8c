// Package qmp speaks QEMU's machine protocol over a Unix socket, with QEMU
// itself and with qemu-storage-daemon. It is a leaf that anyone may import.
//
// Client: one connection. Event: what QEMU says without being asked.
//
// Source: QEMU, docs/interop/qmp-spec.rst.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLine bounds one message from QEMU in bytes. The largest that is asked
	// for, a text-mode screen in hexadecimal, takes some tens of kilobytes.
	maxLine = 4 << 20
	// maxWaiting is how many events wait for their reader.
	maxWaiting = 1024
)

// ErrClosed is a connection that has ended: QEMU exited, or Close was called.
var ErrClosed = errors.New("qmp: connection closed")

// Error is QEMU's refusal of a command.
type Error struct {
	Command string
	Class   string // GenericError, CommandNotFound, DeviceNotFound …
	Desc    string // for people
}

// Error prints the command and QEMU's own sentence.
func (e *Error) Error() string { return fmt.Sprintf("qmp: %s: %s", e.Command, e.Desc) }

// Event is what QEMU says without being asked: RESET, SHUTDOWN, JOB_STATUS_CHANGE …
type Event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data,omitempty"`
	At   time.Time       `json:"at"` // by the host's clock, as QEMU stamped it
}

// Client is one connection to QEMU. It is safe for concurrent use; QEMU answers
// commands in the order in which they were sent.
type Client struct {
	conn   net.Conn
	events chan Event
	lost   atomic.Int64

	writing sync.Mutex

	mu      sync.Mutex
	last    uint64                  // ID of the last command
	pending map[uint64]chan message // by ID
	err     error                   // why the connection ended
	done    chan struct{}           // closed when it has
}

// message is anything that QEMU sends: a greeting, an answer, an event.
type message struct {
	Greeting *json.RawMessage `json:"QMP"`
	ID       *uint64          `json:"id"`
	Return   json.RawMessage  `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// Dial connects to the socket at path and leaves negotiation mode. ctx bounds
// the greeting; the connection lives until Close or until QEMU ends.
func Dial(ctx context.Context, path string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	c := &Client{
		conn:    conn,
		events:  make(chan Event, maxWaiting),
		pending: map[uint64]chan message{},
		done:    make(chan struct{}),
	}
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("qmp: greeting: %w", err), conn.Close())
	}
	return c, nil
}

// greet reads the greeting and starts the reader, which sees the answer to
// qmp_capabilities like any other.
func (c *Client) greet(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) }) // the read then fails
	defer stop()
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(nil, maxLine)
	first, err := next(lines)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if first.Greeting == nil {
		return errors.New("the first message is not a greeting")
	}
	go c.read(lines)
	return c.Execute(ctx, "qmp_capabilities", nil, nil)
}

// Execute runs a command and decodes what it returns into result. args is
// marshalled as the command's arguments; both may be nil. A refusal is *Error;
// a connection that ends meanwhile is ErrClosed; when ctx ends first, the error
// is its cause and the command may still take effect.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	id, answer, err := c.expect()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	defer c.forget(id)
	if err := c.send(ctx, id, command, args); err != nil {
		return fmt.Errorf("qmp: %s: %w", command, err)
	}
	select {
	case m := <-answer:
		return decode(command, m, result)
	case <-c.done:
		return fmt.Errorf("%s: %w", command, c.Err())
	case <-ctx.Done():
		return fmt.Errorf("qmp: %s: %w", command, context.Cause(ctx))
	}
}

// Events are what QEMU says without being asked. The channel is closed when the
// connection ends. A reader that falls 1024 events behind loses the newer ones;
// Lost counts them.
func (c *Client) Events() <-chan Event { return c.events }

// Lost is how many events their reader was too slow for.
func (c *Client) Lost() int64 { return c.lost.Load() }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended, wrapping ErrClosed; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits until commands and events have ended.
// QEMU itself goes on. Closing twice is harmless.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (c *Client) expect() (uint64, chan message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, nil, c.err
	}
	c.last++
	answer := make(chan message, 1)
	c.pending[c.last] = answer
	return c.last, answer, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

func (c *Client) send(ctx context.Context, id uint64, command string, args any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	deadline, _ := ctx.Deadline() // none is the zero time, which lifts the last one
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err = c.conn.Write(append(line, '\n'))
	return err
}

// read hands out what QEMU says until the connection ends.
func (c *Client) read(lines *bufio.Scanner) {
	var err error
	for err == nil {
		var m message
		if m, err = next(lines); err == nil {
			c.deliver(m)
		}
	}
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	c.mu.Unlock()
	_ = c.conn.Close() // after a message that cannot be read, nothing else can
	close(c.done)
	close(c.events)
}

func (c *Client) deliver(m message) {
	if m.Event != "" {
		at := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
		select {
		case c.events <- Event{Name: m.Event, Data: m.Data, At: at}:
		default:
			c.lost.Add(1)
		}
		return
	}
	if m.ID == nil {
		return // an answer to nothing that was asked
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer, ok := c.pending[*m.ID]; ok {
		delete(c.pending, *m.ID)
		answer <- m
	}
}

func next(lines *bufio.Scanner) (message, error) {
	var m message
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return m, err
		}
		return m, io.EOF
	}
	err := json.Unmarshal(lines.Bytes(), &m)
	return m, err
}

func decode(command string, m message, result any) error {
	if m.Error != nil {
		return &Error{Command: command, Class: m.Error.Class, Desc: m.Error.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("qmp: answer to %s: %w", command, err)
	}
	return nil
}
