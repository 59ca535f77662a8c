package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// left are the files in a folder.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, e := range must(os.ReadDir(dir))(t) {
		names = append(names, e.Name())
	}
	return names
}

// ended are how exports ended: whether they were complete.
func (s *server) ended() (list []bool) {
	for {
		select {
		case complete := <-s.closed:
			list = append(list, complete)
		default:
			return list
		}
	}
}

// sends answers with so much of the stream, and cuts the connection.
func (s *server) sends(n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Write(s.stream[:n])       //nolint:errcheck // the client may be gone
		w.(http.Flusher).Flush()    // a stream that has begun
		panic(http.ErrAbortHandler) // and is cut
	}
}

// Faults of an export: only a whole stream is the disk, and what was left is removed.
func TestFaultsOfAnExport(t *testing.T) {
	quick(t)
	raw := content()
	other := streamOf(t, raw[:1<<20])
	for name, c := range map[string]struct {
		n     int64
		f     func(s *server) func(http.ResponseWriter, *http.Request)
		says  string // nothing: the bytes are read
		ended []bool
	}{
		"cut once":           {1, func(s *server) func(http.ResponseWriter, *http.Request) { return s.sends(len(s.stream) / 2) }, "", []bool{false, true}},
		"cut before its end": {1, func(s *server) func(http.ResponseWriter, *http.Request) { return s.sends(len(s.stream) - 512) }, "", []bool{false, true}},
		"always cut":         {9, func(s *server) func(http.ResponseWriter, *http.Request) { return s.sends(len(s.stream) / 2) }, "the stream of the export ended early", []bool{false, false, false}},
		"cut short, said to be whole": {9, func(s *server) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, _ *http.Request) { w.Write(s.stream[:len(s.stream)-512]) } //nolint:errcheck // the client may be gone
		}, "the stream of the export ended early", []bool{false, false, false}},
		"a storm of 503":  {5, func(*server) func(http.ResponseWriter, *http.Request) { return status(503) }, "", []bool{true}},
		"the lease ended": {1, func(*server) func(http.ResponseWriter, *http.Request) { return status(404) }, "", []bool{false, true}},
		"a 206":           {1, func(*server) func(http.ResponseWriter, *http.Request) { return status(206) }, "answers 206", []bool{false}},
		"another disk": {1, func(*server) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, _ *http.Request) { w.Write(other) } //nolint:errcheck // the client may be gone
		}, "the stream is of a disk of 1048576 bytes, and this one has 6330880", []bool{false}},
		"a damaged grain": {1, func(s *server) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, _ *http.Request) {
				bad := bytes.Clone(s.stream)
				bad[128*512+50] ^= 1
				w.Write(bad) //nolint:errcheck // the client may be gone
			}
		}, "disk is damaged", []bool{false}},
	} {
		s := newServer(t)
		s.valid = "vmware_soap_session=0"
		d := s.exported(raw)
		s.times(c.n, c.f(s))
		r, err := nfc.Open(t.Context(), s.access(), d)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !errors.Is(err, ErrUnusable)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if got := s.ended(); !slices.Equal(got, c.ended) {
			t.Errorf("%s: the exports ended %v, want %v", name, got, c.ended)
		}
		if err != nil {
			if names := left(t, d.Folder); len(names) > 0 {
				t.Errorf("%s: %q is left", name, names)
			}
			continue
		}
		reads(t, r, raw)
		must(0, r.Close())(t)
	}
}

// What is whole from before is read again, if it is the same disk of the same snapshot.
func TestAWholeExportIsUsedAgain(t *testing.T) {
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	for range 2 {
		r := must(nfc.Open(t.Context(), s.access(), d))(t)
		reads(t, r, raw)
		must(0, r.Close())(t)
	}
	if n := s.exports.Load(); n != 1 {
		t.Errorf("%d exports", n)
	}
	path := filepath.Join(d.Folder, left(t, d.Folder)[0])
	must(0, os.Truncate(path, 4096))(t)
	other := d
	other.Snapshot = "snapshot-2"
	off := d
	off.Snapshot = ""
	must(0, os.WriteFile(newSpool(off).path, make([]byte, len(raw)), 0o600))(t) // from before the VM ran again
	for i, d := range []Disk{d, other, off, off} {
		r := must(nfc.Open(t.Context(), s.access(), d))(t)
		reads(t, r, raw)
		must(0, r.Close())(t)
		if n := s.exports.Load(); n != int64(i+2) {
			t.Errorf("%d exports, want %d", n, i+2)
		}
	}
	if names := left(t, d.Folder); len(names) != 2 { // of both snapshots
		t.Errorf("%q is left", names)
	}
}

// What is left of an export that was killed is not taken for anything.
func TestAHalfExportIsBegunAgain(t *testing.T) {
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	sp := newSpool(d)
	must(0, os.WriteFile(sp.path+part, bytes.Repeat([]byte{7}, len(raw)+999), 0o600))(t)
	r := must(nfc.Open(t.Context(), s.access(), d))(t)
	reads(t, r, raw)
	list := must(r.Extents(t.Context(), 0, r.Size()))(t)
	for off := int64(0); off < r.Size(); off = list[0].Offset + list[0].Length {
		if list = must(r.Extents(t.Context(), off, r.Size()-off))(t); list[0].Zero {
			break
		}
	}
	if !list[0].Zero {
		t.Error("no holes")
	}
	must(0, r.Close())(t)
}

// A server that does not know the export any more has ended it; another one is begun.
func TestALeaseThatTimedOutIsTakenAgain(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.Write(s.stream[:100000]) //nolint:errcheck // the client may be gone
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	s.valid = "vmware_soap_session=0"
	s.times(1, hang)
	export := d.Export
	d.Export = func(ctx context.Context) (Export, error) {
		e, err := export(ctx)
		if s.exports.Load() == 1 {
			beats := 0 // the stream has begun by then
			e.Progress = func(context.Context, int) error {
				if beats++; beats > 5 {
					return fmt.Errorf("the lease %w", ErrEnded)
				}
				return nil
			}
		}
		return e, err
	}
	r := must(nfc.Open(t.Context(), s.access(), d))(t)
	reads(t, r, raw)
	must(0, r.Close())(t)
	if got := s.ended(); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("the exports ended %v", got)
	}
	d.Export = func(context.Context) (Export, error) { return Export{}, fmt.Errorf("the snapshot %w", ErrGone) }
	d.UUID = "another"
	if _, err := nfc.Open(t.Context(), s.access(), d); !errors.Is(err, ErrGone) {
		t.Errorf("a snapshot that is gone: %v", err)
	}
}

// The server is told how far the export is, also while nothing comes.
func TestAnExportIsKeptAlive(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	s.valid = "vmware_soap_session=0"
	s.times(1, func(w http.ResponseWriter, _ *http.Request) {
		half := len(s.stream) * 3 / 4
		w.Write(s.stream[:half]) //nolint:errcheck // the client may be gone
		w.(http.Flusher).Flush()
		time.Sleep(200 * time.Millisecond)
		w.Write(s.stream[half:]) //nolint:errcheck // the client may be gone
	})
	var mu sync.Mutex
	var told []int
	export := d.Export
	d.Export = func(ctx context.Context) (Export, error) {
		e, err := export(ctx)
		e.Progress = func(_ context.Context, percent int) error {
			mu.Lock()
			defer mu.Unlock()
			if told = append(told, percent); len(told)%3 > 0 {
				return errors.New("no answer") // now and then
			}
			return nil
		}
		return e, err
	}
	must(0, must(nfc.Open(t.Context(), s.access(), d))(t).Close())(t)
	if len(told) < 6 || !slices.IsSorted(told) || told[len(told)-1] < 30 || told[len(told)-1] > 99 {
		t.Errorf("told %v", told)
	}
}

// TestAnExportIsTakenAsFastAsItMayBe: every byte that comes is asked for, and one that may
// not come ends it.
func TestAnExportIsTakenAsFastAsItMayBe(t *testing.T) {
	quick(t)
	s := newServer(t)
	raw := content()
	d := s.exported(raw)
	s.valid = "vmware_soap_session=0"
	var asked int64
	a := s.access()
	a.Pace = func(_ context.Context, n int64) error {
		if n > mostAtOnce {
			t.Errorf("%d bytes at once", n)
		}
		asked += n
		return nil
	}
	must(0, must(nfc.Open(t.Context(), a, d))(t).Close())(t)
	if asked < int64(len(s.stream))*9/10 || asked > int64(len(s.stream)) {
		t.Errorf("%d bytes were asked for, and %d came", asked, len(s.stream))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	over, other := errors.New("it is over"), d
	other.Folder = t.TempDir()
	a.Pace = func(ctx context.Context, _ int64) error {
		cancel(over)
		return context.Cause(ctx)
	}
	if _, err := nfc.Open(ctx, a, other); !errors.Is(err, over) {
		t.Errorf("Open = %v, want %v", err, over)
	}
}

func TestAnExportIsCancelled(t *testing.T) {
	s := newServer(t)
	d := s.exported(content())
	s.valid = "vmware_soap_session=0"
	s.times(1, func(w http.ResponseWriter, r *http.Request) {
		w.Write(s.stream[:100000]) //nolint:errcheck // the client may be gone
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	why := errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	began := time.Now()
	if _, err := nfc.Open(ctx, s.access(), d); !errors.Is(err, why) || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if got := s.ended(); !slices.Equal(got, []bool{false}) || len(left(t, d.Folder)) > 0 {
		t.Errorf("the export ended %v, and %q is left", got, left(t, d.Folder))
	}
}

func TestAFullStorageIsSaid(t *testing.T) {
	d := Disk{Size: 1 << 20, Folder: t.TempDir()}
	s := newSpool(d)
	err := s.fill(func(func([]byte, int64) error) error { return s.full(&os.PathError{Op: "write", Err: unix.ENOSPC}) })
	want := "cannot be used: the storage of " + d.Folder + " is full: the disk needs up to 1048576 bytes there; make room, or use a transport that needs none"
	if err == nil || err.Error() != want || len(left(t, d.Folder)) > 0 {
		t.Errorf("%v, want %s", err, want)
	}
}

// Nothing is fetched for which there may be no room in the end: of this disk, or of one that
// comes after it. A disk that is read already, and falls back to an export, counts alone.
func TestWhatMayNotFitIsNotFetched(t *testing.T) {
	quick(t)
	const much = 1 << 60
	for name, c := range map[string]struct {
		holds, next int64
		fails       bool // the transport that it was read by before
		refused     string
	}{
		"it fits":                    {1 << 20, 1 << 20, false, ""},
		"it is too large":            {much, 0, false, "take up to 1152921504606846976 bytes in"},
		"one after it is too large":  {1, much, false, "take up to 1152921504606846977 bytes in"},
		"those after it were opened": {1 << 20, much, true, ""},
	} {
		s := newServer(t)
		raw := content()
		d := s.exported(raw)
		d.Holds, d.Next = c.holds, c.next
		list := []Transport{nfc}
		if c.fails {
			list = []Transport{{Name: "frail", Open: func(context.Context, Access, Disk) (disk.Remote, error) { return broken(raw), nil }}, nfc}
		}
		r, err := Open(t.Context(), list, s.access(), d, nil)
		if err == nil {
			err = errors.Join(r.Read(t.Context(), make([]byte, 4096), 0), r.Close())
		}
		if c.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		for _, part := range []string{c.refused, d.Folder, "are free there: make room, choose a folder on other storage, or use a transport that needs none"} {
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q", name, err, part)
			}
		}
		if n := s.exports.Load(); n != 0 || len(left(t, d.Folder)) > 0 {
			t.Errorf("%s: %d exports, and %q is left", name, n, left(t, d.Folder))
		}
	}
}

// broken is a disk that can be opened and not be read.
func broken(raw []byte) disk.Remote {
	return &memory{raw: raw, fail: func(int64) error { return errors.New("it broke") }}
}

// Two who read a disk into the same folder do not write one file.
func TestTwoExportsDoNotMix(t *testing.T) {
	d := Disk{Size: 1 << 20, Folder: t.TempDir(), Snapshot: "snapshot-1"}
	s := newSpool(d)
	err := s.fill(func(put func([]byte, int64) error) error {
		if err := newSpool(d).fill(nil); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "another one reads this disk") {
			t.Errorf("the second: %v", err)
		}
		return put([]byte("first"), 0)
	})
	got := must(os.ReadFile(s.path))(t)
	if err != nil || !bytes.HasPrefix(got, []byte("first")) || len(got) != 1<<20 {
		t.Errorf("the first: %v", err)
	}
}

func TestNFCNeedsAnExportAndAFolder(t *testing.T) {
	s := newServer(t)
	d := s.exported(content())
	for name, spoil := range map[string]func(d *Disk){
		"no export": func(d *Disk) { d.Export = nil }, "no folder": func(d *Disk) { d.Folder = "" }, "no size": func(d *Disk) { d.Size = 0 },
		"no address": func(d *Disk) { d.Export = func(context.Context) (Export, error) { return Export{}, nil } },
		"no success": func(d *Disk) {
			d.Export = func(context.Context) (Export, error) { return Export{}, errors.New("the VM runs") }
		},
	} {
		d := d
		spoil(&d)
		if _, err := nfc.Open(t.Context(), s.access(), d); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
