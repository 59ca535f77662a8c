package nbd

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// peer is a server that a test scripts, message by message. What it cannot send
// or read ends it: the client may hang up at any time.
type peer struct {
	t    *testing.T
	conn net.Conn
}

// asked is a request as it came.
type asked struct {
	flags, command uint16
	cookie, off    uint64
	length         uint32
	payload        []byte
}

// scripted serves one connection after the other by a script, and returns how to
// reach it.
func scripted(t *testing.T, script func(p *peer)) Options {
	t.Helper()
	socket := filepath.Join(privateDir(t), "nbd.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			script(&peer{t, conn})
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-ended })
	return Options{Socket: socket}
}

func (p *peer) send(data []byte) bool {
	_, err := p.conn.Write(data)
	return err == nil
}

func (p *peer) take(n int) []byte {
	data := make([]byte, n)
	if _, err := io.ReadFull(p.conn, data); err != nil {
		return nil
	}
	return data
}

// drain waits until the client hangs up.
func (p *peer) drain() { _, _ = io.Copy(io.Discard, p.conn) }

// greet sends the greeting with handshake flags and takes the client's.
func (p *peer) greet(flags uint16) {
	p.send(be(uint64(greetingMagic), uint64(optionMagic), flags))
	p.take(4)
}

// option takes an option; 0 is a client that has gone.
func (p *peer) option() (uint32, []byte) {
	header := p.take(16)
	if header == nil {
		return 0, nil
	}
	return binary.BigEndian.Uint32(header[8:]), p.take(int(binary.BigEndian.Uint32(header[12:])))
}

func (p *peer) reply(option, kind uint32, data ...any) bool {
	d := be(data...)
	return p.send(append(be(uint64(optionReplyMagic), option, kind, uint32(len(d))), d...))
}

// terms are what a scripted server negotiates.
type terms struct {
	size   uint64
	flags  uint16
	blocks [3]uint32 // none told if zero
	simple bool
	tls    *tls.Config
	more   []string // metadata contexts besides those asked for, which are first
}

const everything = hasFlags | sendFlush | sendFUA | sendTrim | sendZeroes | sendFastZero

// negotiate does its part of a whole negotiation.
func (p *peer) negotiate(t terms) {
	p.greet(fixedNewstyle | noZeroes)
	for {
		option, _ := p.option()
		switch option {
		case optStructuredReply:
			p.reply(option, map[bool]uint32{false: repAck, true: repUnsupported}[t.simple])
		case optStartTLS:
			p.reply(option, repAck)
			p.conn = tls.Server(p.conn, t.tls)
		case optSetMetaContext:
			for i, name := range append([]string{Allocation}, t.more...) {
				p.reply(option, repMetaContext, uint32(7+i), name)
			}
			p.reply(option, repAck)
		case optGo:
			p.reply(option, repInfo, uint16(infoExport), t.size, t.flags)
			if t.blocks != [3]uint32{} {
				p.reply(option, repInfo, uint16(infoBlockSize), t.blocks[0], t.blocks[1], t.blocks[2])
			}
			p.reply(option, repInfo, uint16(99), "of a later protocol")
			p.reply(option, repAck)
			return
		case 0:
			return
		default:
			p.t.Errorf("the client sends option %d", option)
			return
		}
	}
}

// request takes a request; a client that has gone sends none.
func (p *peer) request() (asked, bool) {
	header := p.take(requestSize)
	if header == nil {
		return asked{}, false
	}
	a := asked{
		flags: binary.BigEndian.Uint16(header[4:]), command: binary.BigEndian.Uint16(header[6:]),
		cookie: binary.BigEndian.Uint64(header[8:]), off: binary.BigEndian.Uint64(header[16:]),
		length: binary.BigEndian.Uint32(header[24:]),
	}
	if magic := binary.BigEndian.Uint32(header); magic != requestMagic {
		p.t.Errorf("a request begins with %#x", magic)
	}
	if a.command == cmdWrite {
		a.payload = p.take(int(a.length))
	}
	return a, true
}

// chunk and simple are replies as bytes.
func chunk(a asked, flags, kind uint16, payload ...any) []byte {
	b := be(payload...)
	return append(be(uint32(structuredMagic), flags, kind, a.cookie, uint32(len(b))), b...)
}

func simple(a asked, number uint32, payload ...any) []byte {
	return append(be(uint32(simpleMagic), number, a.cookie), be(payload...)...)
}

// done is a reply's last chunk, which says nothing.
func done(a asked) []byte { return chunk(a, replyDone, chunkNone) }

// be is values in the protocol's byte order, one after the other.
func be(values ...any) (b []byte) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b = append(b, v...)
		default:
			var err error
			if b, err = binary.Append(b, binary.BigEndian, v); err != nil {
				panic(err) // a mistake of the test
			}
		}
	}
	return b
}
