package nbd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// deaf is a connection of which only what the server says matters.
type deaf struct {
	net.Conn // none: what else is called is a mistake
	said     io.Reader
}

func (d *deaf) Read(p []byte) (int, error)       { return d.said.Read(p) }
func (d *deaf) Write(p []byte) (int, error)      { return len(p), nil }
func (d *deaf) SetDeadline(time.Time) error      { return nil }
func (d *deaf) SetReadDeadline(time.Time) error  { return nil }
func (d *deaf) SetWriteDeadline(time.Time) error { return nil }
func (d *deaf) Close() error                     { return nil }

// The requests that a fuzzed server answers: cookies 1 to 5.
func fuzzed(structured bool, said []byte) (*Client, []*request, []byte) {
	conn := &deaf{said: bytes.NewReader(said)}
	c := newClient(conn, conn, export{
		size: 1 << 30, flags: everything, minimum: 1, maximum: maxPayload, structured: structured,
		contexts: []meta{{Allocation, 7}, {"x:other", 8}},
	})
	c.in = bufio.NewReaderSize(conn, maxText) // so that short payloads pass its edge
	memory := bytes.Repeat([]byte{0x55}, 3*lieLen)
	all := []*request{
		{command: cmdRead, off: lieAt, length: lieLen, into: memory[lieLen : 2*lieLen]},
		{command: cmdWrite, off: lieAt, length: lieLen},
		{command: cmdFlush},
		{command: cmdBlockStatus, off: lieAt, length: lieLen},
		{command: cmdRead, off: lieAt, length: lieLen, orphan: true},
	}
	for i, r := range all {
		r.done = make(chan error, 1)
		c.pending[uint64(i+1)] = r
	}
	c.orphans = 1
	return c, all, memory
}

// FuzzReplies lets a server say anything. Whatever it is, every request ends,
// one that succeeds has all of its data, and no byte beside a buffer changes.
func FuzzReplies(f *testing.F) {
	cookies := map[string]uint64{"read": 1, "write": 2, "flush": 3, "extents": 4}
	for _, l := range lies {
		f.Add(true, l.answer(asked{cookie: cookies[l.request], off: lieAt, length: lieLen}))
	}
	read, status, orphan := asked{cookie: 1}, asked{cookie: 4}, asked{cookie: 5}
	f.Add(true, join(hole(read, lieAt+100, lieLen-100), data(read, lieAt, 100), done(read), simple(asked{cookie: 2}, 28), simple(asked{cookie: 3}, 0)))
	f.Add(true, join(chunk(status, 0, chunkStatus, uint32(7), uint32(512), uint32(3), uint32(512), uint32(0)), data(orphan, lieAt, lieLen), done(status), done(orphan)))
	f.Add(true, chunk(read, replyDone, chunkErrorOffset, uint32(5), uint16(4), "text", uint64(lieAt)))
	f.Add(false, join(simple(read, 0, make([]byte, lieLen)), simple(orphan, 0, make([]byte, lieLen)), simple(status, 5)))
	f.Fuzz(func(t *testing.T, structured bool, said []byte) {
		c, all, memory := fuzzed(structured, said)
		c.read()
		for i, r := range all {
			select {
			case err := <-r.done:
				if err == nil && i == 0 && structured && !r.filled.whole(lieLen) {
					t.Error("a read succeeded without its data")
				}
				if err == nil && i == 3 && len(r.extents) == 0 {
					t.Error("a block status succeeded without an extent")
				}
			default:
				t.Errorf("request %d has no end", i+1)
			}
		}
		if strings.Trim(string(memory[:lieLen])+string(memory[2*lieLen:]), "\x55") != "" {
			t.Error("bytes beside the buffer were written to")
		}
		var total int64
		for _, e := range inBlocks(all[3].extents, 512, true) {
			total += e.Length
		}
		if total > lieLen || cap(all[3].extents) > 2*len(said)/8+8 || c.orphans < 0 {
			t.Errorf("extents of %d bytes, %d places, %d orphans", total, cap(all[3].extents), c.orphans)
		}
	})
}

// FuzzNegotiation lets a server say anything from the greeting on. It gives an
// export that can be used, or one of the errors that callers know.
func FuzzNegotiation(f *testing.F) {
	greeting := be(uint64(greetingMagic), uint64(optionMagic), uint16(agreed))
	ack := func(option uint32) []byte { return be(uint64(optionReplyMagic), option, uint32(repAck), uint32(0)) }
	export := be(uint64(optionReplyMagic), uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), uint64(1<<20), uint16(everything))
	blocks := be(uint64(optionReplyMagic), uint32(optGo), uint32(repInfo), uint32(14), uint16(infoBlockSize), uint32(512), uint32(4096), uint32(1<<20))
	context := be(uint64(optionReplyMagic), uint32(optSetMetaContext), uint32(repMetaContext), uint32(4+len(Allocation)), uint32(7), Allocation)
	f.Add(join(greeting, ack(optStructuredReply), context, ack(optSetMetaContext), export, blocks, ack(optGo)))
	f.Add(join(greeting, ack(optStructuredReply), ack(optSetMetaContext), be(uint64(optionReplyMagic), uint32(optGo), uint32(repUnknown), uint32(4), "none")))
	f.Add(join(greeting, be(uint64(optionReplyMagic), uint32(optStructuredReply), uint32(repUnsupported), uint32(0)), be(uint64(optionReplyMagic), uint32(optGo), uint32(repUnsupported), uint32(0)), be(uint64(1<<20), uint16(everything))))
	f.Add(join(be(uint64(greetingMagic), uint64(optionMagic), uint16(0)), be(uint64(1<<20), uint16(everything), make([]byte, reservedZeroes))))
	f.Fuzz(func(t *testing.T, said []byte) {
		c, err := open(t.Context(), &deaf{said: bytes.NewReader(said)}, Options{Export: "x"})
		if err != nil {
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrDisconnected) {
				t.Errorf("open = %v", err)
			}
			return
		}
		minimum, preferred, maximum := c.BlockSize()
		if c.Size() < 0 || minimum < 1 || minimum > maxMinimum || c.Size()%minimum != 0 || preferred < minimum ||
			maximum < minimum || maximum > maxPayload || maximum%minimum != 0 || len(c.Contexts()) > maxContexts {
			t.Errorf("an export of %d bytes in blocks of %d, %d, %d", c.Size(), minimum, preferred, maximum)
		}
	})
}
