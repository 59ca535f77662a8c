package disk

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// kept are grains that were inflated, in a file without a name. A guest's files are
// read several times, by each stage and by checkers, in pieces that do not begin where
// grains do, and in the end all of the disk is copied; the kernel holds them in memory
// that it has to spare, and forgets them with the file. The source never changes, so
// they are good until then.
type kept struct {
	file *os.File
	mu   sync.Mutex
	at   map[place]slot
	end  int64
}

// place is where a grain is.
type place struct {
	file File
	at   int64
}

// slot is where it is kept, in bytes.
type slot struct{ at, size int64 }

// mostKept is how much is kept of a disk, in bytes; what comes later is not.
const mostKept = 256 << 20

// ampleRoom is what a folder's storage must have to spare: nothing that a migration
// writes may lack what is kept. It is a variable for tests alone.
var ampleRoom = int64(16 * mostKept)

// Keep has compressed grains that are read from now on kept in a folder with ample
// room, or not at all.
func (d *Content) Keep(dir string) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || int64(s.Bavail) < ampleRoom/s.Bsize {
		return
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return // a file system without: what is not kept is inflated again
	}
	d.kept = &kept{file: os.NewFile(uintptr(fd), dir), at: map[place]slot{}}
	d.files = append(d.files, d.kept.file)
}

// Once is the same disk for who passes over it once: what is kept is taken from there,
// and no more is kept. It is good until the disk is closed, and need not be itself.
func (d *Content) Once() *Content {
	return &Content{size: d.size, layers: d.layers, kept: d.kept, once: true}
}

// read fills p with what lies at skip in a grain, if that is kept.
func (k *kept) read(at place, p []byte, skip int64) bool {
	k.mu.Lock()
	s, ok := k.at[at]
	k.mu.Unlock()
	if !ok || skip+int64(len(p)) > s.size {
		return false
	}
	_, err := k.file.ReadAt(p, s.at+skip)
	return err == nil
}

// add keeps a grain, if there is room.
func (k *kept) add(at place, grain []byte) {
	s, ok := k.reserve(at, int64(len(grain)))
	if !ok {
		return
	}
	if _, err := k.file.WriteAt(grain, s.at); err != nil {
		return // the storage is full, or does not work
	}
	k.mu.Lock()
	k.at[at] = s
	k.mu.Unlock()
}

// reserve finds room for a grain that has none.
func (k *kept) reserve(at place, size int64) (slot, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.at[at]; known || k.end+size > mostKept {
		return slot{}, false
	}
	s := slot{k.end, size}
	k.end += size
	return s, true
}
