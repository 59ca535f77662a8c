package nbd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ram is a disk in memory, of which a part cannot be read.
type ram struct {
	data   []byte
	broken int64
}

func (r ram) Size() int64 { return int64(len(r.data)) }

func (r ram) Read(p []byte, off int64) error {
	if r.broken > 0 && off+int64(len(p)) > r.broken {
		return errors.New("a bad sector")
	}
	copy(p, r.data[off:])
	return nil
}

func offered(t *testing.T, d Disk) Options {
	t.Helper()
	socket := filepath.Join(privateDir(t), "nbd.sock")
	s, err := Offer(socket, "disk", d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return Options{Socket: socket, Export: "disk"}
}

func random(n int) []byte {
	data, r := make([]byte, n), rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func TestADiskIsOffered(t *testing.T) {
	data := random(9<<20 + 777)
	o := offered(t, ram{data: data})
	a, b := dial(t, o), dial(t, o)
	if a.Size() != int64(len(data)) || !a.Features().ReadOnly {
		t.Errorf("it has %d bytes and %+v", a.Size(), a.Features())
	}
	var all sync.WaitGroup
	for i := range 40 { // more than are answered at once, longer than a request may be
		all.Go(func() {
			c := []*Client{a, b}[i%2]
			off := i * 200_001
			got := make([]byte, min(len(data)-off, 1_500_001))
			if err := c.Read(t.Context(), got, int64(off)); err != nil || !bytes.Equal(got, data[off:off+len(got)]) {
				t.Errorf("Read of %d bytes at %d: %v", len(got), off, err)
			}
		})
	}
	all.Wait()
	if err := a.Write(t.Context(), []byte("x"), 0); err == nil {
		t.Error("it was written")
	}
}

func TestAnOfferedDiskIsGivenByItsName(t *testing.T) {
	o := offered(t, ram{data: random(100)})
	o.Export = "another"
	if _, err := Dial(t.Context(), o); !errors.Is(err, ErrRefused) {
		t.Errorf("Dial = %v, want %v", err, ErrRefused)
	}
}

func TestWhatCannotBeReadIsOneRequestsAlone(t *testing.T) {
	data := random(8 << 20)
	c := dial(t, offered(t, ram{data: data, broken: 4 << 20}))
	p := make([]byte, 4096)
	if err := c.Read(t.Context(), p, 5<<20); !errors.Is(err, syscall.EIO) {
		t.Errorf("Read = %v, want %v", err, syscall.EIO)
	}
	if err := c.Read(t.Context(), p, 1<<20); err != nil || !bytes.Equal(p, data[1<<20:][:4096]) {
		t.Errorf("Read elsewhere: %v", err)
	}
}

// meeting is a disk of which each piece is read only while another one is.
type meeting struct {
	ram
	inside chan struct{}
}

func (m meeting) Read(p []byte, off int64) error {
	select {
	case m.inside <- struct{}{}:
	case <-m.inside:
	case <-time.After(5 * time.Second):
		return errors.New("nobody else came")
	}
	return m.ram.Read(p, off)
}

func TestRequestsThatComeTogetherAreAnsweredSideBySide(t *testing.T) {
	o := offered(t, meeting{ram{data: random(1 << 20)}, make(chan struct{})})
	conn, err := net.Dial("unix", o.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	said := be(uint32(fixedNewstyle), uint64(optionMagic), uint32(optGo), uint32(10), uint32(4), []byte("disk"), uint16(0))
	for cookie := range uint64(4) {
		said = append(said, be(uint32(requestMagic), uint16(0), uint16(cmdRead), cookie, uint64(0), uint32(1))...)
	}
	if _, err := conn.Write(said); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 18+3*20+12+14+4*(16+1)) // the greeting, three replies to the option, and what was read
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	for reply := range slices.Chunk(got[len(got)-4*17:], 17) {
		if !bytes.Equal(reply[:8], be(uint32(simpleMagic), uint32(0))) {
			t.Errorf("the answer is %x", reply)
		}
	}
}

// QEMU's programs, which are what it is for, and nbdcopy.
func TestProgramsReadAnOfferedDisk(t *testing.T) {
	data := random(3<<20 + 512)
	o := offered(t, ram{data: data})
	uri := "nbd+unix:///disk?socket=" + o.Socket
	raw := filepath.Join(t.TempDir(), "a.raw")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri, raw)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri)
	run(t, "nbdcopy", uri, "null:")
	back, _ := qemuNBD(t, "-r", "-f", "raw", raw)
	got := make([]byte, len(data))
	if err := dial(t, back).Read(t.Context(), got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was copied differs: %v", err)
	}
}

// A client that says what makes no sense, or leaves in the middle, harms no other.
func TestAnOfferOutlivesItsClients(t *testing.T) {
	data := random(1 << 20)
	o := offered(t, ram{data: data})
	good := dial(t, o)
	request := func(command uint16, off uint64, n uint32) []byte {
		return be(uint32(requestMagic), uint16(0), command, uint64(7), off, n)
	}
	choose := be(uint32(fixedNewstyle), uint64(optionMagic), uint32(optGo), uint32(10), uint32(4), []byte("disk"), uint16(0))
	for name, said := range map[string][]byte{
		"nothing":                {},
		"no newstyle":            be(uint32(0)),
		"noise":                  random(4096),
		"a long option":          be(uint32(fixedNewstyle), uint64(optionMagic), uint32(optGo), uint32(1<<30)),
		"a long name":            be(uint32(fixedNewstyle), uint64(optionMagic), uint32(optGo), uint32(10), uint32(1<<31), []byte("disk"), uint16(0)),
		"half a request":         append(bytes.Clone(choose), request(cmdRead, 0, 512)[:9]...),
		"a write":                append(bytes.Clone(choose), request(cmdWrite, 0, 512)...),
		"a read behind the end":  append(bytes.Clone(choose), request(cmdRead, 1<<63, 512)...),
		"a long read":            append(bytes.Clone(choose), request(cmdRead, 0, 1<<31)...),
		"a read, not waited for": append(bytes.Clone(choose), request(cmdRead, 0, 1<<20)...),
	} {
		conn, err := net.Dial("unix", o.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(said); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
		p := make([]byte, 4096)
		if err := good.Read(t.Context(), p, 8192); err != nil || !bytes.Equal(p, data[8192:][:4096]) {
			t.Fatalf("%s: another client's read: %v", name, err)
		}
	}
	if err := good.Read(t.Context(), make([]byte, 512), 1<<20-511); err == nil {
		t.Error("something was read behind the end")
	}
}
