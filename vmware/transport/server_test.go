package transport

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
)

// server is a server with datastores under /folder and exports under /nfc, over TLS. It
// proves that requests are as the protocol has them, not that a real server answers so.
type server struct {
	*httptest.Server
	t     *testing.T
	root  string // a folder for each datastore
	mu    sync.Mutex
	valid string // the cookie of the session
	given int    // cookies
	// before answers a request instead of the server, if it returns true.
	before   func(w http.ResponseWriter, r *http.Request) bool
	stream   []byte // of the export
	exports  atomic.Int64
	closed   chan bool // for each export that ended: whether it was complete
	requests atomic.Int64
	dcPath   string
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, root: t.TempDir(), closed: make(chan bool, 100), dcPath: "DC0"}
	mux := http.NewServeMux()
	mux.HandleFunc("/folder/", s.folder)
	mux.HandleFunc("/nfc/", s.nfc)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.mu.Lock()
		before, valid := s.before, s.valid
		s.mu.Unlock()
		switch {
		case before != nil && before(w, r):
		case valid == "" || r.Header.Get("Cookie") != valid:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// folder serves a file as ESXi does; net/http answers ranges.
func (s *server) folder(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || q.Get("dcPath") != s.dcPath || strings.Contains(r.URL.RawQuery, "+") {
		http.Error(w, "no such datacenter", http.StatusNotFound)
		return
	}
	http.ServeFile(w, r, filepath.Join(s.root, q.Get("dsName"), strings.TrimPrefix(r.URL.Path, "/folder/")))
}

func (s *server) nfc(w http.ResponseWriter, _ *http.Request) {
	if _, err := w.Write(s.stream); err != nil {
		s.t.Log(err)
	}
}

// kill ends the session.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.valid = ""
}

// instead has requests answered otherwise.
func (s *server) instead(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *server) access() Access {
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return Access{Server: u, HTTP: s.Client(), Cookie: func(_ context.Context, refused string) (string, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if refused != "" && refused == s.valid {
			s.t.Error("a cookie that is good was given back")
		}
		s.given++
		s.valid = fmt.Sprintf("vmware_soap_session=%d", s.given)
		return s.valid, nil
	}}
}

// write puts a file on a datastore.
func (s *server) write(datastore, name string, data []byte) {
	s.t.Helper()
	path := filepath.Join(s.root, datastore, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// describe writes a descriptor; with a parent it is a snapshot's.
func (s *server) describe(datastore, name string, cid, parent uint32, hint, extents string) {
	s.t.Helper()
	s.write(datastore, name, fmt.Appendf(nil, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\ncreateType=\"vmfs\"\n%s%s\nddb.adapterType = \"lsilogic\"\n", cid, parent, hint, extents))
}

// flat puts a disk on a datastore as one flat file.
func (s *server) flat(datastore, folder, name string, raw []byte) Disk {
	s.t.Helper()
	s.write(datastore, folder+"/"+name+"-flat.vmdk", raw)
	s.describe(datastore, folder+"/"+name+".vmdk", 1, 0xffffffff, "", fmt.Sprintf("RW %d VMFS \"%s-flat.vmdk\"", len(raw)/512, name))
	return Disk{VM: "vm-1", Key: 2000, Files: []string{"[" + datastore + "] " + folder + "/" + name + ".vmdk"}, Datacenter: "/DC0", Host: s.t.Name(), UUID: "u", Size: int64(len(raw))}
}

// exported is a disk that the server exports.
func (s *server) exported(raw []byte) Disk {
	s.t.Helper()
	s.stream = streamOf(s.t, raw)
	d := Disk{VM: "vm-1", Snapshot: "snapshot-1", Key: 2000, Host: s.t.Name(), UUID: "u", Size: int64(len(raw)), Folder: s.t.TempDir()}
	d.Export = func(context.Context) (Export, error) {
		n := s.exports.Add(1)
		u, err := url.Parse(fmt.Sprintf("%s/nfc/lease-%d/disk-0.vmdk", s.URL, n))
		return Export{URL: u, Client: s.Client(), Progress: func(context.Context, int) error { return nil },
			Close: func(ctx context.Context, complete bool) error {
				s.closed <- complete
				return context.Cause(ctx)
			}}, err
	}
	return d
}

// streamOf is a disk as ESXi exports it.
//
// Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
func streamOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	const grain, overhead = 64 << 10, 128
	header := make([]byte, 512)
	copy(header, "KDMV")
	for at, v := range map[int]uint32{4: 3, 8: 0x30001, 44: 512} {
		binary.LittleEndian.PutUint32(header[at:], v)
	}
	for at, v := range map[int]uint64{12: uint64(len(raw) / 512), 20: grain / 512, 28: 1, 36: 20, 56: 1<<64 - 1, 64: overhead} {
		binary.LittleEndian.PutUint64(header[at:], v)
	}
	copy(header[73:], "\n \r\n\x01")
	var b bytes.Buffer
	b.Write(append(bytes.Clone(header), make([]byte, (overhead-1)*512)...))
	mark := func(value uint64, size, kind uint32) []byte {
		m := binary.LittleEndian.AppendUint64(nil, value)
		m = binary.LittleEndian.AppendUint32(m, size)
		if size == 0 {
			m = binary.LittleEndian.AppendUint32(m, kind)
		}
		return m
	}
	add := func(p []byte) { b.Write(append(p, make([]byte, (512-len(p)%512)%512)...)) }
	for at := 0; at < len(raw); at += grain {
		p := raw[at:min(len(raw), at+grain)]
		if bytes.Count(p, []byte{0}) == len(p) {
			continue
		}
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		add(append(mark(uint64(at/512), uint32(z.Len()), 0), z.Bytes()...))
	}
	add(mark(4, 0, 1))
	add(make([]byte, 2048))
	add(mark(1, 0, 2))
	add(make([]byte, 512))
	add(mark(1, 0, 3))
	binary.LittleEndian.PutUint64(header[56:], 200)
	add(header)
	add(mark(0, 0, 0))
	return b.Bytes()
}

// content is a disk with data that can be told from one another, holes, and an end that
// is no grain's.
func content() []byte {
	raw := make([]byte, 6<<20+77*512)
	for at := 0; at < len(raw); at += 512 {
		if at>>16%5 != 2 && at>>20 != 3 {
			copy(raw[at:], fmt.Sprintf("sector %d of the disk", at/512))
		}
	}
	return raw
}

// quick makes the pauses between tries short, and giving up. A host still has a minute for an
// answer, however busy this machine is: see impatient.
func quick(t *testing.T) {
	t.Helper()
	was, again, beats, alive := usual, reopening, heartbeat, sshKeepAlive
	usual = pace{most: 2 * time.Second, first: time.Millisecond, last: 20 * time.Millisecond, stall: time.Minute}
	reopening = pace{most: 2 * time.Second, first: time.Millisecond, last: 20 * time.Millisecond}
	heartbeat = 10 * time.Millisecond
	t.Cleanup(func() { usual, reopening, heartbeat, sshKeepAlive = was, again, beats, alive })
}

// impatient is quick, and gives a connection up that brings nothing for so long.
func impatient(t *testing.T, stall time.Duration) {
	t.Helper()
	quick(t)
	usual.stall, usual.most = stall, time.Minute
}

// must is a value that there has to be.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// reads fails the test if a disk does not hold these bytes.
func reads(t *testing.T, d disk.Remote, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := d.Read(t.Context(), got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the disk holds other bytes")
	}
}
