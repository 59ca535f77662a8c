package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

func needTools(t *testing.T) {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-nbd", "qemu-storage-daemon"} {
		if _, err := proc.Look(program); err != nil {
			if os.Getenv("NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// source serves a disk.
func source(t *testing.T, data []byte) *disk.Source {
	t.Helper()
	return sourceIn(t, data, disk.QCOW2)
}

// sourceIn opens a disk in a format.
func sourceIn(t *testing.T, data []byte, format string, options ...string) *disk.Source {
	t.Helper()
	needTools(t)
	raw := filepath.Join(t.TempDir(), "disk.raw")
	writeSparse(t, raw, data)
	path := filepath.Join(t.TempDir(), "disk."+format)
	args := append([]string{"convert", "-f", "raw", "-O", format}, options...)
	if _, err := proc.Run(t.Context(), "qemu-img", append(args, raw, path)...); err != nil {
		t.Fatal(err)
	}
	s, err := disk.OpenSource(t.Context(), path, format)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// writeSparse makes a file with holes where the data are zeroes.
func writeSparse(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(0); off < int64(len(data)); off += zeroPiece {
		piece := data[off:min(off+zeroPiece, int64(len(data)))]
		if isZero(piece) {
			continue
		}
		if _, err := f.WriteAt(piece, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

func jobOf(s *disk.Source, dir string, shape disk.Shape) Job {
	return Job{ID: "the copy", From: s.Export, To: Target{Path: filepath.Join(dir, "out."+shape.Format), Shape: shape, Size: s.Size}}
}

// content is what a disk holds, read by QEMU.
func content(t *testing.T, path, format string) []byte {
	t.Helper()
	back := filepath.Join(t.TempDir(), "back.raw")
	if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", format, "-O", "raw", path, back); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(back)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func silent(Progress) {}

func TestACopyIsWholeInEveryFormat(t *testing.T) {
	data := patterned(24<<20 + 64<<10)
	s := source(t, data)
	for name, shape := range map[string]disk.Shape{
		"raw":                       {Format: disk.Raw},
		"raw, all room taken":       {Format: disk.Raw, Preallocation: "falloc"},
		"qcow2":                     {Format: disk.QCOW2},
		"qcow2, compressed":         {Format: disk.QCOW2, Compress: true},
		"qcow2, large clusters":     {Format: disk.QCOW2, ClusterSize: 1 << 20},
		"qcow2, metadata allocated": {Format: disk.QCOW2, Preallocation: "metadata"},
		"qcow2, all room taken":     {Format: disk.QCOW2, Preallocation: "falloc"},
		"vmdk":                      {Format: disk.VMDK},
		"vdi":                       {Format: disk.VDI},
		"vhdx":                      {Format: disk.VHDX},
	} {
		last, dir := Progress{}, t.TempDir()
		job := jobOf(s, dir, shape)
		got, err := Parallel{}.Copy(t.Context(), []Job{job}, func(p Progress) { last = p })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if last.Virtual != s.Size || last.Total != s.Size || last.Wire == 0 || last.Wire > s.Size/2 {
			t.Errorf("%s: the last progress is %+v", name, last)
		}
		if r := got[0]; r.Size != s.Size || len(r.Content) != 64 || (r.Allocated < s.Size) == (shape.Preallocation == "falloc") {
			t.Errorf("%s: %+v of %d bytes", name, r, s.Size)
		}
		if read := content(t, job.To.Path, shape.Format); !bytes.Equal(read[:len(data)], data) {
			t.Errorf("%s: the copy differs", name)
		}
		if got := compressed(t, job.To.Path, shape.Format); got != shape.Compress {
			t.Errorf("%s: compressed: %v", name, got)
		}
		if left := filesIn(t, dir); !slices.Equal(left, []string{"out.manifest", "out." + shape.Format}) {
			t.Errorf("%s: left behind: %q", name, left)
		}
		if shape.Format != disk.Raw {
			if err := disk.CheckFormat(t.Context(), job.To.Path, shape.Format); err != nil && shape.Format != disk.VHDX {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// compressed tells whether QEMU finds compressed clusters in a disk.
func compressed(t *testing.T, path, format string) bool {
	t.Helper()
	if format != disk.QCOW2 {
		return false
	}
	out, err := proc.Run(t.Context(), "qemu-img", "check", "--output=json", "-f", format, path)
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Clusters int64 `json:"compressed-clusters"`
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found.Clusters > 0
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDisksOfOneContentHaveOneDigest(t *testing.T) {
	s := source(t, patterned(8<<20))
	var digests []string
	for _, shape := range []disk.Shape{{Format: disk.Raw}, {Format: disk.QCOW2}} {
		r, err := Parallel{}.Copy(t.Context(), []Job{jobOf(s, t.TempDir(), shape)}, silent)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, r[0].Content)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %q", digests)
	}
}

func TestSeveralDisksAreCopiedSideBySide(t *testing.T) {
	var jobs []Job
	dir := t.TempDir()
	for i := range 4 {
		s := source(t, patterned(int64(12+i)<<20))
		job := jobOf(s, dir, disk.Shape{Format: disk.QCOW2})
		job.To.Path = filepath.Join(dir, fmt.Sprintf("disk%d.qcow2", i))
		jobs = append(jobs, job)
	}
	begun, together := map[int]bool{}, 0
	slow := Parallel{Limits: []Limit{{Rate: 4 << 20}}}
	results, err := slow.Copy(t.Context(), jobs, func(p Progress) {
		begun[p.Disk] = p.Wire > 0 && p.Virtual < p.Total
		n := 0
		for _, b := range begun {
			if b {
				n++
			}
		}
		together = max(together, n)
	})
	if err != nil {
		t.Fatal(err)
	}
	if together < 2 {
		t.Errorf("%d disks were under way at once", together)
	}
	for i, r := range results {
		if r.Path != jobs[i].To.Path || !bytes.Equal(content(t, r.Path, disk.QCOW2), patterned(int64(12+i)<<20)) {
			t.Errorf("disk %d is %+v", i, r)
		}
	}
}

func TestAnExistingTargetIsKept(t *testing.T) {
	s := source(t, patterned(1<<20))
	for _, name := range []string{"out.qcow2", "out.manifest"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Parallel{}.Copy(t.Context(), []Job{jobOf(s, dir, disk.Shape{Format: disk.QCOW2})}, silent)
		if !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), name) {
			t.Errorf("Copy over %s: %v, want %v", name, err, ErrTarget)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
			t.Errorf("the file is now %q, %v", text, err)
		}
		if left := filesIn(t, dir); len(left) != 1 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// What is in the way of one disk takes nothing back of another.
func TestWhatIsInTheWayOfOneDiskLeavesTheOthers(t *testing.T) {
	s, dir := source(t, patterned(4<<20)), t.TempDir()
	first, second := jobOf(s, dir, disk.Shape{Format: disk.Raw}), jobOf(s, t.TempDir(), disk.Shape{Format: disk.QCOW2})
	almost(t, first)
	if err := os.WriteFile(second.To.Path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Parallel{}).Copy(t.Context(), []Job{first, second}, silent); !errors.Is(err, ErrTarget) {
		t.Errorf("Copy = %v, want %v", err, ErrTarget)
	}
	if left := filesIn(t, dir); !slices.Equal(left, []string{"out.journal", "out.manifest.partial", "out.raw.partial"}) {
		t.Errorf("of the other disk is left: %q", left)
	}
}

func TestACopyThatIsCancelledHasNoFinalName(t *testing.T) {
	s := source(t, patterned(1<<20))
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator left")
	dir := t.TempDir()
	cancel(reason)
	job := jobOf(s, dir, disk.Shape{Format: disk.QCOW2})
	if _, err := (Parallel{}).Copy(ctx, []Job{job}, silent); !errors.Is(err, reason) {
		t.Errorf("Copy = %v, want %v", err, reason)
	}
	if left := filesIn(t, dir); slices.Contains(left, "out.qcow2") || slices.Contains(left, "out.manifest") {
		t.Errorf("half a result has a final name: %q", left)
	}
	if err := Discard(job.To, job.ID); err != nil {
		t.Error(err)
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestACopyOfADeadSourceLeavesNothingWithTheFinalName(t *testing.T) {
	s := source(t, patterned(1<<20))
	dir := t.TempDir()
	job := jobOf(s, dir, disk.Shape{Format: disk.Raw})
	job.From.Socket += ".gone"
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); !errors.Is(err, ErrSource) {
		t.Errorf("a copy of nothing: %v, want %v", err, ErrSource)
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A target's storage that is too small is a file system of a few MiB.
func TestACopyToAFullStorageLeavesNothing(t *testing.T) {
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts a small file system as root: set NEED_TOOLS=1")
	}
	s := source(t, patterned(40<<20))
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	for _, format := range []string{disk.Raw, disk.QCOW2} {
		_, err := Parallel{}.Copy(t.Context(), []Job{jobOf(s, dir, disk.Shape{Format: format})}, silent)
		if !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%s: %v, want %v", format, err, ErrTarget)
		}
		if left := filesIn(t, dir); len(left) > 0 {
			t.Errorf("%s: left behind: %q", format, left)
		}
	}
}

// A copy that is killed with -9 anywhere, also when all is copied and nothing has its final
// name, goes on where it was, and reads no more than 64 MiB again. The killed one is this program again.
func TestAKilledCopyGoesOn(t *testing.T) {
	const size = 400 << 20
	if dir := os.Getenv("KILLED_COPY"); dir != "" {
		copyUntilKilled(t, dir)
		return
	}
	data := patterned(size)
	s := source(t, data)
	whole := int64(0)
	for _, format := range []string{disk.Raw, disk.QCOW2} {
		before := int64(-1)
		for _, at := range []int64{0, 5, 100, 350, size >> 20} { // MiB dealt with
			dir := t.TempDir()
			job := jobOf(s, dir, disk.Shape{Format: format})
			wire := killAt(t, job, at<<20)
			if wire <= before || at > 0 && (wire == whole) != (at == size>>20) {
				t.Errorf("%s was killed when %d bytes of %d were read, and %d the time before: not in its middle, or not elsewhere", format, wire, whole, before)
			}
			before = wire
			r, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, job.To.Path, format), data) {
				t.Errorf("%s killed at %d MiB: the copy differs", format, at)
			}
			if at == 0 {
				whole = r[0].Wire
			}
			if again := wire + r[0].Wire - whole; again > inFlight+unsaved {
				t.Errorf("%s killed at %d MiB: %d bytes were read again", format, at, again)
			}
			if left := filesIn(t, dir); len(left) != 2 {
				t.Errorf("left behind: %q", left)
			}
		}
	}
}

// A journal with a flipped bit is believed as far as it is whole, or not at all: the copy
// goes on or begins anew, and is whole.
func TestAKilledCopyGoesOnWithADamagedJournal(t *testing.T) {
	data := bytes.Repeat([]byte("no zeroes, so that the journal tells of much when half is copied. "), 1<<20)
	data = data[:60<<20]
	s := source(t, data)
	job := jobOf(s, t.TempDir(), disk.Shape{Format: disk.Raw})
	killAt(t, job, 50<<20)
	left := leftBy(t, job)
	journal := left[job.To.journal()]
	text := int64(bytes.IndexByte(journal, '\n'))
	records := int64(len(journal)) - headerSize
	if records < recordSize || records%recordSize != 0 {
		t.Fatalf("the journal has records of %d bytes", records)
	}
	places := []int64{0, int64(bytes.Index(journal, []byte(job.ID))), text / 4, text / 2, text - 2, headerSize - 1}
	for field := range int64(6) { // the last bytes of first, count, digests and the checksum, and the first ones of others
		places = append(places, headerSize+field*4, headerSize+records-recordSize+field*4)
	}
	for _, at := range places {
		leave(t, left)
		flip(t, job.To.journal(), at)
		if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
			t.Errorf("byte %d of the journal: %v", at, err)
			continue
		}
		if !bytes.Equal(content(t, job.To.Path, disk.Raw), data) {
			t.Errorf("byte %d of the journal: the copy differs", at)
		}
	}
}

// leftBy is what a killed copy to a raw file has left, by name.
func leftBy(t *testing.T, job Job) map[string][]byte {
	t.Helper()
	left := map[string][]byte{}
	for _, name := range filesIn(t, filepath.Dir(job.To.Path)) {
		path := filepath.Join(filepath.Dir(job.To.Path), name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		left[path] = data
	}
	return left
}

// leave puts it back, and nothing else.
func leave(t *testing.T, left map[string][]byte) {
	t.Helper()
	for path, data := range left {
		if err := os.RemoveAll(strings.TrimSuffix(path, partial)); err != nil {
			t.Fatal(err)
		}
		writeSparse(t, path, data)
	}
}

// killAt has another process copy and be killed when it says that it has dealt
// with so many bytes; it returns how many it had read when it last said so.
func killAt(t *testing.T, job Job, at int64) (wire int64) {
	t.Helper()
	if at == 0 {
		return 0
	}
	said, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	child, err := os.StartProcess("/proc/self/exe", []string{"copy", "-test.run", "^TestAKilledCopyGoesOn$"}, &os.ProcAttr{Files: []*os.File{nil, w, os.Stderr},
		Env: append(os.Environ(), "KILLED_COPY="+filepath.Dir(job.To.Path), "SOCKET="+job.From.Socket, "FORMAT="+job.To.Format, fmt.Sprint("SIZE=", job.To.Size))})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var virtual int64
	for virtual < at {
		line := make([]byte, 64)
		n, err := said.Read(line)
		if err != nil {
			t.Fatalf("the copy ended before it was killed: %v", err)
		}
		for part := range strings.Lines(string(line[:n])) {
			if _, err := fmt.Sscanf(part, "at %d %d\n", &virtual, &wire); err != nil {
				continue // a part of a line, or the test's own
			}
		}
	}
	if err := child.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	return wire
}

func copyUntilKilled(t *testing.T, dir string) {
	size, err := strconv.ParseInt(os.Getenv("SIZE"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	format := os.Getenv("FORMAT")
	job := Job{ID: "the copy", From: disk.Export{Socket: os.Getenv("SOCKET"), Name: "disk"}, To: Target{Path: filepath.Join(dir, "out."+format), Shape: disk.Shape{Format: format}, Size: size}}
	slow := Parallel{Limits: []Limit{{Rate: 20 << 20}}} // some reports come before its end
	_, err = slow.Copy(t.Context(), []Job{job}, func(p Progress) {
		fmt.Printf("at %d %d\n", p.Virtual, p.Wire)
		if p.Virtual == p.Total {
			select {} // what comes next would be quick
		}
	})
	t.Fatalf("the copy was not killed: %v", err)
}

// A server that is lost and comes back is dialed again.
func TestACopyOutlivesItsSourcesServer(t *testing.T) {
	needTools(t)
	data := patterned(80 << 20)
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "s")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func() *proc.Server {
		server, err := proc.Start(t.Context(), proc.Service{Socket: socket, Command: proc.Command{Name: "qemu-nbd",
			Args: []string{"-r", "--persistent", "--shared=0", "-f", "raw", "--socket=" + socket, "--export-name=disk", path}}})
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	server := serve()
	restarted := false
	job := Job{ID: "x", From: disk.Export{Socket: socket, Name: "disk"}, To: Target{Path: filepath.Join(dir, "out.raw"), Shape: disk.Shape{Format: disk.Raw}, Size: int64(len(data))}}
	patient := Parallel{Reconnect: time.Minute, Limits: []Limit{{Rate: 20 << 20}}}
	_, err := patient.Copy(t.Context(), []Job{job}, func(Progress) {
		if !restarted {
			restarted = true
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
			server = serve()
		}
	})
	if err := errors.Join(err, server.Stop()); err != nil {
		t.Fatal(err)
	}
	if !restarted || !bytes.Equal(content(t, job.To.Path, disk.Raw), data) {
		t.Errorf("restarted: %v; the copy differs", restarted)
	}
}

// After a start of the machine, what the journal tells of is read back.
func TestNothingIsBelievedAfterTheMachineWasStarted(t *testing.T) {
	data := patterned(80 << 20)
	s := source(t, data)
	for _, format := range []string{disk.Raw, disk.QCOW2} {
		dir := t.TempDir()
		job := jobOf(s, dir, disk.Shape{Format: format})
		almost(t, job)
		lose(t, job.To.Path+partial, format)
		pretendAnotherBoot(t, filepath.Join(dir, "out.journal"))
		if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, job.To.Path, format), data) {
			t.Errorf("%s: the copy differs", format)
		}
	}
}

// almost leaves a copy whose journal tells of all of it.
func almost(t *testing.T, job Job) {
	t.Helper()
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	for _, final := range []string{job.To.Path, job.To.Manifest()} {
		if err := os.Rename(final, final+partial); err != nil {
			t.Fatal(err)
		}
	}
	m, err := openManifest(job.To.Manifest()+partial, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	h := m.header
	h.Content = ""
	j, err := createJournal(job.To.journal(), h)
	if err == nil {
		err = errors.Join(j.add(m, 0, m.chunks()), j.close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A copy that goes on takes no more room than one that was not interrupted.
func TestACopyThatGoesOnKeepsHoles(t *testing.T) {
	needTools(t)
	const size = 1 << 30
	path := filepath.Join(t.TempDir(), "disk.raw")
	writeSparse(t, path, patterned(8<<20))
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	s, err := disk.OpenSource(t.Context(), path, disk.Raw)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, format := range []string{disk.Raw, disk.QCOW2, disk.VDI, disk.VMDK, disk.VHDX} {
		job := jobOf(s, t.TempDir(), disk.Shape{Format: format})
		almost(t, job)
		whole := allocated(job.To.work())
		if err := os.Truncate(job.To.journal(), headerSize); err != nil { // it was killed before it could tell of anything
			t.Fatal(err)
		}
		if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
			t.Fatal(err)
		}
		if again := allocated(job.To.Path); whole == 0 || again > whole {
			t.Errorf("%s takes %d bytes after it was gone on with, %d before", format, again, whole)
		}
		verified(t, job)
	}
}

// lose makes a piece of a target other than it was written.
func lose(t *testing.T, path, format string) {
	t.Helper()
	if _, err := proc.Run(t.Context(), "qemu-io", "-f", format, "-c", "write -P 9 3M 64k", path); err != nil {
		t.Fatal(err)
	}
}

func pretendAnotherBoot(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil || !bytes.Contains(text, []byte(boot)) {
		t.Fatalf("the journal does not name the boot: %v", err)
	}
	text = bytes.Replace(text, []byte(boot), []byte(strings.Repeat("0", len(boot))), 1)
	copy(text[headerSize-sumSize:], sumOf(text[:headerSize]))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsAFlippedBit(t *testing.T) {
	s := source(t, patterned(12<<20))
	job := jobOf(s, t.TempDir(), disk.Shape{Format: disk.Raw})
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	check := func() (Verified, error) {
		d, err := disk.OpenSource(t.Context(), job.To.Path, disk.Raw)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return Parallel{}.Verify(t.Context(), Check{Manifest: job.To.Manifest(), From: d.Export, Source: false}, silent)
	}
	if v, err := check(); err != nil || v.Wrong != 0 || v.Read == 0 {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	flip(t, job.To.Path, 9<<20+17)
	if v, err := check(); !errors.Is(err, ErrDiffers) || v.Wrong != 1 || v.First[0].Offset != 9<<20 {
		t.Errorf("Verify of a flipped bit = %+v, %v", v, err)
	}
}

// Only the copy's own files are removed, whole or not.
func TestDiscardTakesOnlyWhatTheCopyMade(t *testing.T) {
	for name, c := range map[string]struct {
		left, want []string
		id         string // of the manifest that has the final name
		begun      string // ID in the journal
	}{
		"killed before a file was whole":           {left: []string{"a.raw.partial", "a.manifest.partial", "a.journal"}},
		"killed while it was copied":               {left: []string{"a.raw.partial", "a.manifest.partial"}, begun: "x"},
		"another copy is at work":                  {left: []string{"a.raw.partial", "a.manifest.partial"}, begun: "other", want: []string{"a.journal", "a.manifest.partial", "a.raw.partial"}},
		"killed, and somebody took the names":      {left: []string{"a.raw", "a.raw.partial", "a.manifest", "a.journal"}, want: []string{"a.manifest", "a.raw"}, id: "other"},
		"killed when the manifest had its name":    {left: []string{"a.manifest", "a.raw.partial", "a.journal"}, id: "x"},
		"killed when all had their names":          {left: []string{"a.manifest", "a.raw", "a.journal"}, id: "x"},
		"killed before it began":                   {},
		"a manifest that is none is somebody's":    {left: []string{"a.manifest"}, want: []string{"a.manifest"}},
		"a disk without a manifest is somebody's":  {left: []string{"a.raw", "a.raw.partial"}, want: []string{"a.raw"}},
		"a disk beside an own manifest is the own": {left: []string{"a.raw", "a.manifest"}, id: "x"},
	} {
		dir := t.TempDir()
		for _, file := range c.left {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.id != "" {
			if err := os.Remove(filepath.Join(dir, "a.manifest")); err != nil {
				t.Fatal(err)
			}
			m, err := createManifest(filepath.Join(dir, "a.manifest"), newHeader(c.id, 1<<20))
			if err == nil {
				err = errors.Join(m.seal(), m.close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if c.begun != "" {
			j, err := createJournal(filepath.Join(dir, "a.journal"), newHeader(c.begun, 1<<20))
			if err == nil {
				err = j.close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := Discard(Target{Path: filepath.Join(dir, "a.raw")}, "x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, filesIn(t, dir)); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
}

func TestPublishNeverTakesAName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.raw")
	for _, name := range []string{"a.raw.partial", "a.manifest.partial", "a.raw"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (Target{Path: path}).publish(); !errors.Is(err, ErrTarget) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("publish over a file = %v, want %v", err, ErrTarget)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "a.raw" {
		t.Errorf("the file is now %q, %v", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := (Target{Path: path}).publish(); err != nil { // goes on where it was interrupted
		t.Error(err)
	}
	if d := cmp.Diff([]string{"a.manifest", "a.raw"}, filesIn(t, dir)); d != "" {
		t.Error(d)
	}
}
