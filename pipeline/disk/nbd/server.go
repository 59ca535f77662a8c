package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// Disk is what a Server offers. Any number of goroutines may read it.
type Disk interface {
	// Size is the disk's, in bytes.
	Size() int64
	// Read fills p with what lies at off.
	Read(p []byte, off int64) error
}

// Server offers a disk to be read, under one name, to programs that use it over a
// Unix socket: several clients at once, and several requests of each. It speaks as
// little of the protocol as they need: fixed newstyle, simple replies.
type Server struct {
	listener net.Listener
	name     string
	disk     Disk
	room     chan []byte // for requests under way
	over     sync.WaitGroup

	mu      sync.Mutex
	clients map[net.Conn]bool // nil when it has ended
}

const (
	// mostAsked is the longest request that is answered, and what clients are told
	// that they may ask for, in bytes.
	mostAsked = 1 << 20
	// answersAtOnce is how many requests are under way, of all clients together.
	answersAtOnce = 8
	// maxOptionData is the longest option that is read: an export's name, and what
	// is to be known of it.
	maxOptionData = maxString + 1024
	// maxOptions is how many options a client may have.
	maxOptions = 64
	optInfo    = 6
)

// Offer begins to offer a disk at the path of a new socket, until Close.
func Offer(socket, name string, d Disk) (*Server, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	s := &Server{listener: listener, name: name, disk: d, room: make(chan []byte, answersAtOnce), clients: map[net.Conn]bool{}}
	for range answersAtOnce {
		s.room <- nil // made when it is needed
	}
	s.over.Go(s.accept)
	return s, nil
}

// Close ends all connections, and waits until nobody reads the disk any more.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		_ = c.Close() // wakes its reader, whatever it says
	}
	s.clients = nil
	s.mu.Unlock()
	s.over.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.clients == nil {
			_ = conn.Close()
		} else {
			s.clients[conn] = true
			s.over.Go(func() { s.talk(conn) })
		}
		s.mu.Unlock()
	}
}

// talk serves one client until it leaves or says what is not understood: there is
// nobody to tell why.
func (s *Server) talk(conn net.Conn) {
	c := &visitor{conn: conn, in: bufio.NewReader(conn)}
	if s.negotiate(c) == nil {
		_ = s.answer(c)
	}
	c.answers.Wait()
	_ = conn.Close()
	s.mu.Lock()
	delete(s.clients, conn)
	s.mu.Unlock()
}

// visitor is one connection to a server.
type visitor struct {
	conn    net.Conn
	in      *bufio.Reader
	answers sync.WaitGroup
	turn    sync.Mutex // to send
}

func (c *visitor) send(parts ...[]byte) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	b := net.Buffers(parts)
	_, err := b.WriteTo(c.conn)
	return err
}

func (c *visitor) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(c.in, b)
	return b, err
}

var errUnanswered = errors.New("nbd: a client that is not understood")

// negotiate agrees with a client that it gets the disk. Source: doc/proto.md,
// "Fixed newstyle negotiation".
func (s *Server) negotiate(c *visitor) error {
	greeting := binary.BigEndian.AppendUint64(nil, greetingMagic)
	greeting = binary.BigEndian.AppendUint64(greeting, optionMagic)
	if err := c.send(binary.BigEndian.AppendUint16(greeting, fixedNewstyle|noZeroes)); err != nil {
		return err
	}
	flags, err := c.take(4)
	if err != nil || binary.BigEndian.Uint32(flags)&fixedNewstyle == 0 {
		return errors.Join(errUnanswered, err)
	}
	for range maxOptions {
		agreed, err := s.option(c)
		if agreed || err != nil {
			return err
		}
	}
	return errUnanswered
}

// option answers one option, and tells whether the negotiation has ended.
func (s *Server) option(c *visitor) (agreed bool, err error) {
	header, err := c.take(16)
	if err != nil {
		return false, err
	}
	kind, size := binary.BigEndian.Uint32(header[8:]), binary.BigEndian.Uint32(header[12:])
	if binary.BigEndian.Uint64(header) != optionMagic || size > maxOptionData {
		return false, errUnanswered
	}
	data, err := c.take(int(size))
	if err != nil {
		return false, err
	}
	switch kind {
	case optGo, optInfo:
		return s.inform(c, kind, data)
	case optAbort:
		return false, errors.Join(c.reply(kind, repAck, nil), errUnanswered)
	}
	return false, c.reply(kind, repUnsupported, nil)
}

func (c *visitor) reply(option, kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, optionReplyMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	return c.send(appendString(b, string(data)))
}

// inform tells of the disk, if it is the one that is asked for.
func (s *Server) inform(c *visitor, option uint32, data []byte) (bool, error) {
	if len(data) < 6 || int(binary.BigEndian.Uint32(data)) > len(data)-6 {
		return false, c.reply(option, repInvalid, nil)
	}
	if string(data[4:][:binary.BigEndian.Uint32(data)]) != s.name {
		return false, c.reply(option, repUnknown, nil)
	}
	about := binary.BigEndian.AppendUint16(nil, infoExport)
	about = binary.BigEndian.AppendUint64(about, uint64(s.disk.Size()))
	about = binary.BigEndian.AppendUint16(about, hasFlags|readOnly|multiConn)
	blocks := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, n := range []uint32{1, 4096, mostAsked} {
		blocks = binary.BigEndian.AppendUint32(blocks, n)
	}
	err := errors.Join(c.reply(option, repInfo, about), c.reply(option, repInfo, blocks), c.reply(option, repAck, nil))
	return option == optGo, err
}

// answer takes requests until the client leaves.
func (s *Server) answer(c *visitor) error {
	for {
		header, err := c.take(requestSize)
		if err != nil {
			return err
		}
		command, off, n := binary.BigEndian.Uint16(header[6:]), binary.BigEndian.Uint64(header[16:]), int64(binary.BigEndian.Uint32(header[24:]))
		if binary.BigEndian.Uint32(header) != requestMagic || command != cmdRead {
			return errUnanswered // it leaves, or it was told that it may read alone
		}
		reply := binary.BigEndian.AppendUint32(nil, simpleMagic)
		reply = append(binary.BigEndian.AppendUint32(reply, 0), header[8:16]...)
		if n > mostAsked || off > uint64(s.disk.Size()-min(n, s.disk.Size())) {
			if err := c.refuse(reply, syscall.EINVAL); err != nil {
				return err
			}
			continue
		}
		buffer := <-s.room
		if c.in.Buffered() == 0 { // nobody waits behind it: to wake another thread would take longer
			s.room <- s.read(c, reply, buffer, int64(off), n)
			continue
		}
		c.answers.Go(func() {
			s.room <- s.read(c, reply, buffer, int64(off), n)
		})
	}
}

// read answers one request, and returns the buffer for the next one.
func (s *Server) read(c *visitor, reply, buffer []byte, off, n int64) []byte {
	if buffer == nil {
		buffer = make([]byte, mostAsked)
	}
	var err error
	if s.disk.Read(buffer[:n], off) != nil {
		err = c.refuse(reply, syscall.EIO)
	} else {
		err = c.send(reply, buffer[:n])
	}
	if err != nil {
		_ = c.conn.Close() // half a reply may be sent: nothing can follow it
	}
	return buffer
}

func (c *visitor) refuse(reply []byte, why syscall.Errno) error {
	binary.BigEndian.PutUint32(reply[4:], uint32(why)) // the protocol's are Linux's
	return c.send(reply)
}
