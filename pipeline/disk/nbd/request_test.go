package nbd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

func TestRequestsAreInFlightTogether(t *testing.T) {
	const n = 16
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		var all []asked // no answer before every request is there
		for range n {
			a, _ := p.request()
			all = append(all, a)
		}
		slices.Reverse(all)
		for _, a := range all {
			p.send(join(chunk(a, 0, chunkData, a.off, bytes.Repeat([]byte{byte(a.off >> 9)}, 512)), done(a)))
		}
		p.drain()
	}))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			p := make([]byte, 512)
			if err := c.Read(t.Context(), p, int64(i)*512); err != nil || bytes.Count(p, []byte{byte(i)}) != 512 {
				t.Errorf("Read %d = %v, %v…", i, err, p[:4])
			}
		})
	}
	wg.Wait()
}

func TestPiecesInAnyOrderMakeTheWhole(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := bytes.Clone(noise[:lieLen])
		c := dial(t, scripted(t, func(p *peer) {
			p.negotiate(terms{size: 1 << 30, flags: everything})
			a, _ := p.request()
			var pieces [][]byte
			for at := 0; at < lieLen; {
				n := 1 + r.IntN(min(1000, lieLen-at))
				if r.IntN(2) == 0 {
					clear(want[at : at+n])
					pieces = append(pieces, hole(a, lieAt+uint64(at), uint32(n)))
				} else {
					pieces = append(pieces, chunk(a, 0, chunkData, lieAt+uint64(at), want[at:at+n]))
				}
				at += n
			}
			r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			p.send(join(append(pieces, done(a))...))
			p.drain()
		}))
		got := bytes.Repeat([]byte{0x55}, lieLen)
		if err := c.Read(t.Context(), got, lieAt); err != nil || !bytes.Equal(got, want) {
			t.Errorf("order %d: Read = %v, or other bytes than were sent", seed, err)
		}
	}
}

func TestLongRequestsAreSplit(t *testing.T) {
	const size = 5 << 32
	answered := func(command uint16, end uint64) func(p *peer) {
		return func(p *peer) {
			p.negotiate(terms{size: size, flags: everything, blocks: [3]uint32{512, 4096, 10000}})
			for at := uint64(512); ; {
				a, ok := p.request()
				if !ok || a.command == cmdDisconnect {
					if at != end {
						t.Errorf("command %d comes for all up to %d, want %d", command, at, end)
					}
					return
				}
				if a.command != command || a.off != at || a.off%512 != 0 || a.length%512 != 0 {
					t.Errorf("the client asks %+v, after all up to %d", a, at)
				}
				at += uint64(a.length)
				if command == cmdRead {
					p.send(chunk(a, 0, chunkData, a.off, noise[a.off:a.off+uint64(a.length)]))
				}
				if command == cmdWrite && !bytes.Equal(a.payload, noise[a.off:a.off+uint64(a.length)]) {
					t.Errorf("other bytes come at %d than were written", a.off)
				}
				p.send(done(a))
			}
		}
	}
	got := make([]byte, 50<<10)
	if err := dial(t, scripted(t, answered(cmdRead, 50<<10+512))).Read(t.Context(), got, 512); err != nil || !bytes.Equal(got, noise[512:512+len(got)]) {
		t.Errorf("Read = %v, or other bytes than were sent", err)
	}
	if err := dial(t, scripted(t, answered(cmdWrite, 50<<10))).Write(t.Context(), noise[512:50<<10], 512); err != nil {
		t.Errorf("Write = %v", err)
	}
	if err := dial(t, scripted(t, answered(cmdWriteZeroes, size))).Zero(t.Context(), 512, size-512, 0); err != nil {
		t.Errorf("Zero = %v", err)
	}
	if err := dial(t, scripted(t, answered(cmdTrim, size))).Trim(t.Context(), 512, size-512); err != nil {
		t.Errorf("Trim = %v", err)
	}
}

func TestFlagsReachTheServer(t *testing.T) {
	flags := make(chan uint16, 1)
	c := dial(t, scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: everything})
		for a, ok := p.request(); ok; a, ok = p.request() {
			flags <- a.flags
			p.send(done(a))
		}
	}))
	for _, f := range []ZeroFlags{0, FUA, NoHole, Fast, FUA | NoHole | Fast} {
		if err := c.Zero(t.Context(), 0, 512, f); err != nil {
			t.Error(err)
		}
		if got := <-flags; got != uint16(f) {
			t.Errorf("Zero(%b) sends the flags %b", f, got)
		}
	}
}

func TestWhatAServerCannotIsNotSent(t *testing.T) {
	zeroing := dial(t, unasked(t, hasFlags|sendZeroes))
	c := dial(t, unasked(t, hasFlags|sendFastZero))
	for name, err := range map[string]error{
		"Zero": c.Zero(t.Context(), 0, 512, 0), "Trim": c.Trim(t.Context(), 0, 512), "Flush": c.Flush(t.Context()),
		"fast Zero": zeroing.Zero(t.Context(), 0, 512, Fast), "Zero with FUA": zeroing.Zero(t.Context(), 0, 512, FUA),
	} {
		if !errors.Is(err, syscall.ENOTSUP) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s = %v, want %v", name, err, syscall.ENOTSUP)
		}
	}
}

// unasked is a server of 1 GiB in blocks of 512 bytes that no request may come to.
func unasked(t *testing.T, flags uint16) Options {
	t.Helper()
	return scripted(t, func(p *peer) {
		p.negotiate(terms{size: 1 << 30, flags: flags, blocks: [3]uint32{512, 4096, 1 << 20}})
		if a, ok := p.request(); ok && a.command != cmdDisconnect {
			t.Errorf("the client asks %+v", a)
		}
	})
}

func TestWhatIsNotInTheExportsBlocksIsNotSent(t *testing.T) {
	c := dial(t, unasked(t, everything))
	for _, at := range []struct{ off, n int64 }{
		{-512, 512}, {0, -512}, {1 << 30, 512}, {1<<30 - 512, 1024}, {1 << 62, 1 << 62}, {0, 1<<63 - 512}, {1 << 9, 1<<63 - 512}, {1, 512}, {0, 511}, {-1 << 63, 512},
	} {
		_, err := c.Extents(t.Context(), Allocation, at.off, at.n)
		for name, err := range map[string]error{"Extents": err, "Zero": c.Zero(t.Context(), at.off, at.n, 0), "Trim": c.Trim(t.Context(), at.off, at.n)} {
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%s of %d bytes at %d = %v, want %v", name, at.n, at.off, err, syscall.EINVAL)
			}
		}
	}
	p := make([]byte, 1024)
	for name, err := range map[string]error{
		"Read across the end": c.Read(t.Context(), p, 1<<30-512), "Read between blocks": c.Read(t.Context(), p[:512], 256),
		"Write across the end": c.Write(t.Context(), p, 1<<30-512), "Write of half a block": c.Write(t.Context(), p[:256], 0),
	} {
		if !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s = %v, want %v", name, err, syscall.EINVAL)
		}
	}
}

func TestNothingIsWrittenToAReadOnlyExport(t *testing.T) {
	c := dial(t, unasked(t, everything|readOnly))
	for name, err := range map[string]error{
		"Write": c.Write(t.Context(), make([]byte, 512), 0), "Zero": c.Zero(t.Context(), 0, 512, 0), "Trim": c.Trim(t.Context(), 0, 512),
	} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s = %v, want %v", name, err, syscall.EPERM)
		}
	}
}

func TestRequestsOfNothingAreNotSent(t *testing.T) {
	c := dial(t, unasked(t, everything))
	all, err := c.Extents(t.Context(), Allocation, 1<<30, 0)
	if err := errors.Join(err, c.Read(t.Context(), nil, 1<<30), c.Write(t.Context(), nil, 0), c.Zero(t.Context(), 0, 0, 0), c.Trim(t.Context(), 0, 0)); err != nil || all != nil {
		t.Errorf("requests of nothing = %v, %v", all, err)
	}
}
