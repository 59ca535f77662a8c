package watch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxSerial bounds the serial log in bytes; a guest may write for ever.
	maxSerial = 8 << 20
	// maxTail is how much of the end is kept in memory.
	maxTail = 64 << 10
)

// sendLimit is how long a guest may take to read what is typed.
const sendLimit = 5 * time.Second

// serial records what the guest writes to its first serial port.
type serial struct {
	listener  net.Listener
	log       *os.File
	recording sync.WaitGroup

	mu    sync.Mutex
	conn  net.Conn
	shut  bool
	size  int64  // written by the guest
	fresh []byte // not yet taken, at most maxTail
	tail  []byte // at most maxTail
	err   error  // of the log
}

func listenSerial(path, log string) (*serial, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("serial console: %w", err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serial console: %w", err), listener.Close())
	}
	s := &serial{listener: listener, log: f}
	s.recording.Go(s.record)
	return s, nil
}

// record takes the one connection that QEMU makes.
func (s *serial) record() {
	conn, err := s.listener.Accept()
	if err != nil {
		return
	}
	s.mu.Lock()
	s.conn = conn
	if s.shut {
		_ = conn.Close() // the reader below then ends at once
	}
	s.mu.Unlock()
	buf := make([]byte, 16<<10)
	for {
		n, err := conn.Read(buf)
		s.write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (s *serial) write(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := max(0, maxSerial-s.size)
	if _, err := s.log.Write(b[:min(int64(len(b)), room)]); err != nil && s.err == nil {
		s.err = err
	}
	s.size += int64(len(b))
	s.fresh = lastBytes(append(s.fresh, b...), maxTail)
	s.tail = lastBytes(append(s.tail, b...), maxTail)
}

// take returns what was written since the last take, or the end of it.
func (s *serial) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := string(s.fresh)
	s.fresh = nil
	return b
}

// send types one byte.
func (s *serial) send(b byte) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return errors.New("serial console: nothing is connected")
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return fmt.Errorf("serial console: %w", err)
	}
	if _, err := conn.Write([]byte{b}); err != nil {
		return fmt.Errorf("serial console: %w", err)
	}
	return nil
}

func (s *serial) written() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func (s *serial) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.tail)
}

func (s *serial) close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.shut = true
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close())
	}
	s.mu.Unlock()
	s.recording.Wait()
	return errors.Join(err, s.err, s.log.Close())
}

func lastBytes(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
