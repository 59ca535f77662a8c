package lan

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// maxFrame is the longest frame QEMU sends: 64 KiB of segmentation offload
	// and its headers (QEMU, include/net/net.h, NET_BUFSIZE).
	maxFrame = 4096 + 65536
	// maxQueued is how many answers wait for a guest that does not read them;
	// later ones are dropped, as a switch would.
	maxQueued = 256
	// askEvery is the time between two questions to the same address.
	askEvery = time.Second
)

// Segment is the network of one NIC. It is safe for concurrent use.
type Segment struct {
	listener net.Listener
	serving  sync.WaitGroup
	closed   chan struct{}

	mu      sync.Mutex
	station *station
	conn    net.Conn // QEMU's, while it is connected
}

// Listen opens the network of the NIC that e describes on a Unix socket.
func Listen(path string, e Expect) (*Segment, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("network of %s: %w", e.MAC, err)
	}
	return Serve(listener, e)
}

// Serve is the network of the NIC that e describes. QEMU connects to it with
// -netdev stream, or socket, and frames each packet with its length, 4 bytes
// big-endian (QEMU, net/stream.c, net/socket.c). The listener is closed with the
// segment, or because of an error.
func Serve(listener net.Listener, e Expect) (*Segment, error) {
	station, err := newStation(e)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s := &Segment{listener: listener, closed: make(chan struct{}), station: station}
	s.serving.Go(s.serve)
	return s, nil
}

// Witness is what has been seen since Serve or the last Restart.
func (s *Segment) Witness() Witness {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.station.witness()
}

// Restart returns what has been seen and forgets it: the guest was reset, and
// must prove everything again.
func (s *Segment) Restart() Witness {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.station.witness()
	s.station.restart()
	return seen
}

// Close unplugs the guest and waits until nothing is served any more.
func (s *Segment) Close() error {
	close(s.closed)
	err := s.listener.Close()
	s.mu.Lock()
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close())
	}
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

// serve takes one connection after the other: there is one QEMU.
func (s *Segment) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.take(conn) {
			return
		}
		s.converse(conn)
	}
}

// take makes conn the one that Close closes, unless it came too late.
func (s *Segment) take(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		_ = conn.Close()
		return false
	default:
	}
	s.conn = conn
	return true
}

// converse answers the guest and asks it until the connection ends.
func (s *Segment) converse(conn net.Conn) {
	out := make(chan []byte, maxQueued)
	var parts sync.WaitGroup
	done := make(chan struct{})
	parts.Go(func() { send(conn, out, done) })
	parts.Go(func() { s.ask(out, done) })
	s.receive(conn, out)
	close(done)
	s.mu.Lock()
	_ = conn.Close() // Close may have been first; either way it is closed
	s.conn = nil
	s.mu.Unlock()
	parts.Wait()
}

func (s *Segment) receive(conn net.Conn, out chan<- []byte) {
	in := bufio.NewReaderSize(conn, maxFrame)
	buf := make([]byte, maxFrame)
	for {
		frame, err := readFrame(in, buf)
		if err != nil {
			return // QEMU has ended, or speaks something else
		}
		s.mu.Lock()
		answers := s.station.receive(frame, time.Now())
		s.mu.Unlock()
		queue(out, answers)
	}
}

func (s *Segment) ask(out chan<- []byte, done <-chan struct{}) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			s.mu.Lock()
			questions := s.station.questions()
			s.mu.Unlock()
			queue(out, questions)
		}
	}
}

func queue(out chan<- []byte, frames [][]byte) {
	for _, f := range frames {
		select {
		case out <- f:
		default: // the guest does not read
		}
	}
}

func send(conn net.Conn, out <-chan []byte, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case frame := <-out:
			if _, err := conn.Write(appendFrame(nil, frame)); err != nil {
				return
			}
		}
	}
}

func readFrame(in io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(len(buf)) {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	_, err := io.ReadFull(in, buf[:n])
	return buf[:n], err
}

func appendFrame(b, frame []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}
