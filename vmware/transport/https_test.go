package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
)

// opened is a disk that https reads.
func opened(t *testing.T, s *server, d Disk) disk.Remote {
	t.Helper()
	r := must(https.Open(t.Context(), s.access(), d))(t)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// cowd is a sparse extent as ESXi writes for a snapshot: grains of one sector.
//
// Source: VMware Virtual Disk Format 5.0, "ESX Server Sparse Extents".
func cowd(raw []byte) []byte {
	sectors := len(raw) / 512
	tables := (sectors + 4095) / 4096
	data := make([]byte, (4+(tables*4+511)/512)*512)
	copy(data, "COWD")
	for at, v := range map[int]int{4: 1, 8: 3, 12: sectors, 16: 1, 20: 4, 24: tables} {
		binary.LittleEndian.PutUint32(data[at:], uint32(v))
	}
	for i := range tables {
		table := len(data)
		binary.LittleEndian.PutUint32(data[4*512+4*i:], uint32(table/512))
		data = append(data, make([]byte, 4096*4)...)
		for j := i * 4096; j < min(sectors, (i+1)*4096); j++ {
			grain := raw[j*512 : (j+1)*512]
			if bytes.Count(grain, []byte{0}) == 512 {
				continue
			}
			binary.LittleEndian.PutUint32(data[table+(j-i*4096)*4:], uint32(len(data)/512))
			data = append(data, grain...)
		}
	}
	return data
}

// chained puts a disk with a snapshot on a datastore, and returns what it holds.
func (s *server) chained(raw []byte) (Disk, []byte) {
	d := s.flat("ds", "web", "web", raw)
	delta, want := make([]byte, len(raw)), bytes.Clone(raw)
	for at := 5 * 512; at < len(raw); at += 3 * 4096 {
		copy(delta[at:], fmt.Sprintf("written at %d after the snapshot", at))
		copy(want[at:at+512], delta[at:at+512])
	}
	s.write("ds", "web/web-000001-delta.vmdk", cowd(delta))
	s.describe("ds", "web/web-000001.vmdk", 2, 1, "parentFileNameHint=\"web.vmdk\"\n", fmt.Sprintf("RW %d VMFSSPARSE \"web-000001-delta.vmdk\"", len(raw)/512))
	d.Files = append([]string{"[ds] web/web-000001.vmdk"}, d.Files...)
	return d, want
}

func TestHTTPSOverASnapshotConforms(t *testing.T) {
	quick(t)
	conform(t, func(t *testing.T) subject {
		s := newServer(t)
		d, want := s.chained(content())
		return subject{https, s.access(), d, want, func() { must(0, os.RemoveAll(s.root))(t) }}
	})
}

// Names go over the wire as they are, whatever is in them.
func TestOddNamesAreRead(t *testing.T) {
	raw := content()[:9*512]
	for _, dc := range []string{"/Ordner 1+2/Zürich \"100%\" & Söhne;x=1", "DC0", "/ha-datacenter", "ha-datacenter", ""} {
		for _, name := range []string{`we b+1`, `100%25`, `zürich ☃`, `it's "quoted"`, `a#b?c&d=e;f`} {
			s := newServer(t)
			if s.dcPath = strings.TrimPrefix(dc, "/"); s.dcPath == "ha-datacenter" {
				s.dcPath = ""
			}
			d := s.flat("ds "+name, name, strings.ReplaceAll(name, `"`, ""), raw) // a descriptor has no way to write it
			d.Datacenter = dc
			reads(t, opened(t, s, d), raw)
		}
	}
	for _, path := range []string{"", "ds/web.vmdk", "[] web.vmdk", "[ds]", "[ds] a\x00b"} {
		if p, err := parsePath(path); !errors.Is(err, ErrUnusable) {
			t.Errorf("parsePath(%q) = %v, %v", path, p, err)
		}
	}
}

// A session that ends while many read is made anew once.
func TestAKilledSessionIsRenewedOnce(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	r := opened(t, s, s.flat("ds", "web", "web", raw))
	for n := range 3 {
		s.kill()
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				p := make([]byte, 4096)
				if err := r.Read(t.Context(), p, int64(i)<<16); err != nil || !bytes.Equal(p, raw[i<<16:][:4096]) {
					t.Errorf("%v, or other bytes", err)
				}
			})
		}
		group.Wait()
		if s.given != n+2 {
			t.Errorf("%d sessions after %d were killed", s.given, n+1)
		}
	}
}

func TestASessionThatIsAlwaysRefusedIsGivenUp(t *testing.T) {
	quick(t)
	s := newServer(t)
	d := s.flat("ds", "web", "web", content())
	s.instead(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true })
	a := s.access()
	a.Cookie = func(context.Context, string) (string, error) { return "same", nil }
	if _, err := https.Open(t.Context(), a, d); !errors.Is(err, ErrUnusable) || s.requests.Load() != mostRefusals {
		t.Errorf("%v after %d requests", err, s.requests.Load())
	}
	a.Cookie = func(context.Context, string) (string, error) { return "", errors.New("the password is wrong") }
	if _, err := https.Open(t.Context(), a, d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "the password is wrong") {
		t.Error(err)
	}
}

// times does something to the first n ranged requests that come from now on.
func (s *server) times(n int64, f func(w http.ResponseWriter, r *http.Request)) {
	var seen atomic.Int64
	s.instead(func(w http.ResponseWriter, r *http.Request) bool {
		if seen.Add(1) > n {
			return false
		}
		f(w, r)
		return true
	})
}

// status answers with nothing else.
func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// ranging answers with a Content-Range and bytes.
func ranging(contentRange string, n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, n)) //nolint:errcheck // the client may be gone
	}
}

// cutAfter answers as the server does, and cuts the connection after so many bytes.
func cutAfter(raw []byte, n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to) //nolint:errcheck // zeroes then
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(raw)))
		w.Header().Set("Content-Length", fmt.Sprint(to+1-from))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(raw[from:min(from+n, to+1)]) //nolint:errcheck // the client may be gone
		panic(http.ErrAbortHandler)
	}
}

// Faults in the middle of a disk: what passes is waited out, and what a server cannot
// have meant is never taken for the disk's bytes.
func TestFaultsInTheMiddle(t *testing.T) {
	quick(t)
	raw := content()
	size := len(raw)
	whole := fmt.Sprintf("bytes 65536-131071/%d", size)
	for name, c := range map[string]struct {
		n    int64
		f    func(http.ResponseWriter, *http.Request)
		says string // nothing: the bytes are read
	}{
		"a storm of 503":      {10, status(503), ""},
		"a storm of 429":      {10, status(429), ""},
		"a 500":               {1, status(500), ""},
		"a storm without end": {1 << 40, status(503), "answers 503 Service Unavailable"},
		"a 500 without end":   {1 << 40, status(500), "it cannot be opened: "},
		"a cut":               {1, cutAfter(raw, 100), ""},
		"cuts":                {6, cutAfter(raw, 10000), ""},
		"cuts at once":        {3, cutAfter(raw, 0), ""},
		"a whole file":        {1, status(200), "does not answer ranges, but sends whole files"},
		"forbidden":           {1, status(403), "the user may not read it"},
		"elsewhere":           {1, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "answers 302 Found"},
		"another range":       {1, ranging(fmt.Sprintf("bytes 0-65535/%d", size), 65536), "another range"},
		"a shorter range":     {1, ranging(fmt.Sprintf("bytes 65536-131070/%d", size), 65535), "another range"},
		"no range":            {1, ranging("", 65536), "another range"},
		"a range of no size":  {1, ranging("bytes 65536-131071/*", 65536), "another range"},
		"two ranges":          {1, ranging("multipart/byteranges", 65536), "another range"},
		"another size":        {1, ranging("bytes 65536-131071/999999", 65536), "it had 6330880 bytes, and now has 999999: something writes it"},
		"too few bytes":       {1, ranging(whole, 9), "9 bytes come for a range of 65536"},
		"too many bytes":      {1, ranging(whole, 70000), "more bytes come for \"bytes=65536-131071\""},
	} {
		s := newServer(t)
		r := opened(t, s, s.flat("ds", "web", "web", raw))
		s.times(c.n, c.f)
		p, began := make([]byte, 65536), time.Now()
		err := r.Read(t.Context(), p, 65536)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || err == nil && !bytes.Equal(p, raw[65536:131072]) {
			t.Errorf("%s: %v, want %q, or other bytes", name, err, c.says)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		s.CloseClientConnections()
	}
}

// A server that takes a request and sends nothing is asked once more.
func TestWhatDoesNotComeIsAskedForAgain(t *testing.T) {
	impatient(t, 300*time.Millisecond)
	s := newServer(t)
	raw := content()
	r := opened(t, s, s.flat("ds", "web", "web", raw))
	var hung atomic.Bool
	s.times(1, func(_ http.ResponseWriter, r *http.Request) {
		hung.Store(true)
		<-r.Context().Done()
	})
	reads(t, r, raw)
	if !hung.Load() {
		t.Error("nothing hung")
	}
}

// late answers the first request that it is given when that has been given up, as a server
// may that sees its connection end.
type late struct {
	http.RoundTripper
	was atomic.Bool
}

func (l *late) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Range") == "bytes=0-0" || l.was.Swap(true) {
		return l.RoundTripper.RoundTrip(r)
	}
	<-r.Context().Done()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

// An answer that comes when the request was given up says nothing about the disk.
func TestALateAnswerIsNone(t *testing.T) {
	impatient(t, 300*time.Millisecond)
	s := newServer(t)
	raw := content()
	a := s.access()
	client := *a.HTTP
	client.Transport = &late{RoundTripper: client.Transport}
	a.HTTP = &client
	p := make([]byte, 65536)
	r := must(https.Open(t.Context(), a, s.flat("ds", "web", "web", raw)))(t)
	must(0, r.Read(t.Context(), p, 0))(t)
	must(0, r.Close())(t)
	if !bytes.Equal(p, raw[:65536]) {
		t.Error("other bytes")
	}
}

// What a cut connection has brought is not asked for again.
func TestACutIsResumedWhereItWas(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	r := opened(t, s, s.flat("ds", "web", "web", raw))
	var asked []string
	cut := cutAfter(raw, 8192)
	s.instead(func(w http.ResponseWriter, q *http.Request) bool {
		if asked = append(asked, q.Header.Get("Range")); len(asked) == 1 {
			cut(w, q)
		}
		return false
	})
	p := make([]byte, 65536)
	must(0, r.Read(t.Context(), p, 0))(t)
	if len(asked) != 2 || asked[1] != "bytes=8192-65535" || !bytes.Equal(p, raw[:65536]) {
		t.Errorf("asked for %q", asked)
	}
}

func TestFaultsAtOpening(t *testing.T) {
	quick(t)
	raw := content()
	for name, c := range map[string]struct {
		f    func(http.ResponseWriter, *http.Request)
		says string
	}{
		"missing":      {status(404), "[ds] web/web.vmdk: there is no such file"},
		"forbidden":    {status(403), "give the user the privileges Datastore.Browse and Datastore.FileManagement"},
		"locked":       {status(500), "as is so while a VM runs from it; shut the VM down, or read the disk from a snapshot"},
		"locked, said": {status(423), "as is so while a VM runs from it"},
		"whole files":  {status(200), "does not answer ranges"},
		"another":      {ranging("bytes 0-0/99999999999999999999", 1), "another range"},
		"huge":         {ranging("bytes 0-0/999999999999999999", 1), "another range"},
	} {
		s := newServer(t)
		d := s.flat("ds", "web", "web", raw)
		s.times(1<<40, c.f)
		if _, err := https.Open(t.Context(), s.access(), d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	s := newServer(t)
	d := s.flat("ds", "web", "web", raw)
	d.Size += 512
	if _, err := https.Open(t.Context(), s.access(), d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "its files hold a disk of 6330880 bytes, and the server says that it has 6331392") {
		t.Error(err)
	}
	for _, a := range []Access{{}, {HTTP: s.Client()}} {
		if _, err := https.Open(t.Context(), a, d); !errors.Is(err, ErrUnusable) {
			t.Error(err)
		}
	}
	if _, err := https.Open(t.Context(), s.access(), Disk{}); !errors.Is(err, ErrUnusable) {
		t.Error(err)
	}
}

// A server whose certificate is not the one that the client knows gets no request.
func TestAnotherCertificateIsNotTalkedTo(t *testing.T) {
	s := newServer(t)
	d := s.flat("ds", "web", "web", content())
	a := s.access()
	a.HTTP = &http.Client{Transport: &http.Transport{}}
	began := time.Now()
	if _, err := https.Open(t.Context(), a, d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
	if took := time.Since(began); s.requests.Load() > 0 || took > 2*time.Second {
		t.Errorf("%d requests in %v", s.requests.Load(), took)
	}
}

// A read that waits for the server ends with its context.
func TestAReadThatWaitsIsCancelled(t *testing.T) {
	s := newServer(t)
	r := opened(t, s, s.flat("ds", "web", "web", content()))
	for name, f := range map[string]func(http.ResponseWriter, *http.Request){
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "is busy": status(503),
	} {
		s.times(1<<40, f)
		why := errors.New("not wanted any more")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		began := time.Now()
		if err := r.Read(ctx, make([]byte, 512), 0); !errors.Is(err, why) || time.Since(began) > time.Second {
			t.Errorf("a server that %s: %v after %v", name, err, time.Since(began))
		}
	}
}

// What was never written is not read, as long as the server can tell.
func TestWhatWasNeverWrittenIsAHole(t *testing.T) {
	s := newServer(t)
	raw := content()
	d, asked := s.flat("ds", "web", "web", raw), 0
	answer := func(off, n int64) ([]disk.Allocation, error) {
		return []disk.Allocation{{Offset: off, Length: 1 << 20}, {Offset: off + 1<<20, Length: n - 1<<20, Zero: true}}, nil
	}
	d.Allocated = func(_ context.Context, off, n int64) ([]disk.Allocation, error) { asked++; return answer(off, n) }
	r := opened(t, s, d)
	list := must(r.Extents(t.Context(), 0, 3<<20))(t)
	if len(list) != 2 || list[0] != (disk.Allocation{Length: 1 << 20}) || list[1] != (disk.Allocation{Offset: 1 << 20, Length: 2 << 20, Zero: true}) {
		t.Errorf("Extents = %v", list)
	}
	answer = func(off, n int64) ([]disk.Allocation, error) {
		return []disk.Allocation{{Offset: off + 512, Length: n, Zero: true}}, nil
	}
	for range 3 { // an answer that cannot be meant, and is not asked for again
		if list := must(r.Extents(t.Context(), 0, 3<<20))(t); len(list) != 1 || list[0].Zero {
			t.Errorf("Extents = %v", list)
		}
	}
	if asked != 2 {
		t.Errorf("it was asked %d times", asked)
	}
	d.Allocated = func(context.Context, int64, int64) ([]disk.Allocation, error) {
		return nil, fmt.Errorf("the snapshot %w", ErrGone)
	}
	if _, err := opened(t, s, d).Extents(t.Context(), 0, 512); !errors.Is(err, ErrGone) {
		t.Errorf("a snapshot that is gone: %v", err)
	}
}
