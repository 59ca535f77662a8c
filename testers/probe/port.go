package probe

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"hyper2kvm/testers/probe/wire"
)

const (
	// maxOpen is how many challenges may be unanswered at a time.
	maxOpen = 16
	// maxWaiting is how many reports wait for their reader; later ones are lost.
	maxWaiting = 64
	// writeLimit is how long a command may wait for a guest that does not read.
	writeLimit = 2 * time.Second
)

// ErrNoGuest is a command for a guest that cannot be reached.
var ErrNoGuest = errors.New("the probe is not connected")

// Received is an authentic report.
type Received struct {
	wire.Report
	At time.Time `json:"at"` // by the host's clock
}

// Port is the host's end of the probe's port. It is safe for concurrent use.
type Port struct {
	key      []byte
	listener net.Listener
	reports  chan Received
	serving  sync.WaitGroup

	mu     sync.Mutex
	conn   net.Conn        // QEMU's, while it is connected
	open   map[string]bool // challenges; false: void, for the guest has started anew
	torn   bool            // the next bad line may be the rest of one that a reset cut
	forged int
	shut   bool
}

// Listen opens the port on a Unix socket, to which QEMU's chardev connects.
func Listen(path string, key []byte) (*Port, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("probe's port: %w", err)
	}
	p := &Port{key: key, listener: listener, reports: make(chan Received, maxWaiting), open: map[string]bool{}}
	p.serving.Go(p.serve)
	return p, nil
}

// Reports are the authentic ones. The channel is closed by Close.
func (p *Port) Reports() <-chan Received { return p.reports }

// Forged is how many lines were no hello and no authentic answer to a
// challenge of ours: wrong key, used nonce, not JSON, too long.
func (p *Port) Forged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forged
}

// Challenge asks for a report. When 16 challenges are unanswered it does
// nothing: the guest is busy or gone.
func (p *Port) Challenge() error {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	nonce := hex.EncodeToString(b)
	if !p.opened(nonce) {
		return nil
	}
	err := p.say(wire.ToGuest{Challenge: nonce})
	if err != nil {
		p.mu.Lock()
		delete(p.open, nonce)
		p.mu.Unlock()
	}
	return err
}

// opened remembers a challenge if there is room for it; void ones make room.
func (p *Port) opened(nonce string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= maxOpen {
		maps.DeleteFunc(p.open, func(_ string, fresh bool) bool { return !fresh })
	}
	if len(p.open) >= maxOpen {
		return false
	}
	p.open[nonce] = true
	return true
}

// Do sends a command: wire.Reboot or wire.PowerOff.
func (p *Port) Do(command string) error { return p.say(wire.ToGuest{Do: command}) }

// Restart voids the challenges of before a reset of the guest.
func (p *Port) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.void()
	p.torn = true
}

func (p *Port) void() {
	for nonce := range p.open {
		p.open[nonce] = false
	}
}

// Close ends the port and its reports.
func (p *Port) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.shut = true
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
	}
	p.mu.Unlock()
	p.serving.Wait()
	return err
}

func (p *Port) say(m wire.ToGuest) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return ErrNoGuest
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("probe's port: %w", err)
	}
	if _, err := p.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("probe's port: %w", err)
	}
	return nil
}

// serve takes one connection after the other: there is one QEMU.
func (p *Port) serve() {
	defer close(p.reports)
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conn = conn
		if p.shut {
			_ = conn.Close() // the reader below then ends at once
		}
		p.mu.Unlock()
		p.read(conn)
		p.mu.Lock()
		_ = conn.Close() // Close may have been first; either way it is closed
		p.conn = nil
		p.mu.Unlock()
	}
}

func (p *Port) read(conn net.Conn) {
	in := bufio.NewReaderSize(conn, wire.MaxLine)
	for {
		line, err := in.ReadSlice('\n')
		for tooLong := false; errors.Is(err, bufio.ErrBufferFull); _, err = in.ReadSlice('\n') {
			if line = nil; !tooLong {
				p.forge()
				tooLong = true
			}
		}
		if err != nil {
			return
		}
		p.receive(line)
	}
}

func (p *Port) receive(line []byte) {
	if len(line) <= 1 {
		return // an empty line, or one that was too long
	}
	var m wire.ToHost
	if err := json.Unmarshal(line, &m); err != nil {
		p.forge()
		return
	}
	if m.Hello {
		p.mu.Lock()
		p.void() // whoever says hello has no challenge
		p.torn = false
		p.mu.Unlock()
		_ = p.Challenge() // a guest that is gone again says hello again
		return
	}
	p.accept(m)
}

// accept takes an answer to a challenge, once.
func (p *Port) accept(m wire.ToHost) {
	p.mu.Lock()
	fresh, asked := p.open[m.Nonce]
	delete(p.open, m.Nonce)
	p.mu.Unlock()
	var report wire.Report
	if !asked || !m.Authentic(p.key) || json.Unmarshal(m.Report, &report) != nil {
		p.forge()
		return
	}
	if !fresh {
		_ = p.Challenge() // asked before a reset: true, but it proves too little
		return
	}
	select {
	case p.reports <- Received{Report: report, At: time.Now()}:
	default: // nobody reads
	}
}

// forge counts a bad line, unless a reset explains it.
func (p *Port) forge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.torn {
		p.forged++
	}
	p.torn = false
}
