// Package transfer copies a disk from an NBD export into its target, once.
// The target gets its final name only when it is whole and on stable storage.
//
// Copier: a way to copy. Progress: how far it is, with what is counted named.
package transfer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

// ErrTarget is a target that cannot be written as asked.
var ErrTarget = errors.New("cannot write the target")

// Target is the file that a copy makes.
type Target struct {
	Path   string // must not exist
	Format string // qcow2 or raw
	Size   int64  // virtual size in bytes
}

// Progress is how far a copy is.
type Progress struct {
	Virtual   int64 // bytes of the disk dealt with, holes included
	Total     int64 // bytes of the disk
	Allocated int64 // bytes that the target takes on its storage
}

// Result is a finished copy.
type Result struct {
	Path      string        `json:"path"`
	Format    string        `json:"format"`
	Size      int64         `json:"size"`      // virtual bytes
	Allocated int64         `json:"allocated"` // bytes on storage
	SHA256    string        `json:"sha256"`    // of the target file
	Took      time.Duration `json:"took"`
}

// Copier copies one export into one target.
type Copier interface {
	Copy(ctx context.Context, from disk.Export, to Target, report func(Progress)) (Result, error)
}

// partial is what a target is called until it is whole.
const partial = ".partial"

// QemuImg copies with qemu-img convert: holes are skipped, several requests are
// in flight, zeroes become holes.
type QemuImg struct{}

func convertArgs(from disk.Export, to Target) []string {
	return []string{"convert", "-p", "-W", "-m", "8", "-S", "64k", "-f", "raw", "-O", to.Format, from.URI(), to.Path + partial}
}

// Copy implements Copier.
func (QemuImg) Copy(ctx context.Context, from disk.Export, to Target, report func(Progress)) (_ Result, err error) {
	start := time.Now()
	if err := Vacant(to.Path); err != nil {
		return Result{}, err
	}
	temporary := to.Path + partial
	if err := os.RemoveAll(temporary); err != nil { // of a copy that was killed
		return Result{}, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	meter := &percent{report: func(p float64) {
		report(Progress{Virtual: int64(p / 100 * float64(to.Size)), Total: to.Size, Allocated: allocated(temporary)})
	}}
	if _, err := (proc.Command{Name: "qemu-img", Args: convertArgs(from, to), Stdout: meter}).Run(ctx); err != nil {
		return Result{}, explain(err)
	}
	sum, err := settle(ctx, temporary)
	if err != nil {
		return Result{}, err
	}
	if err := publish(temporary, to.Path); err != nil {
		return Result{}, err
	}
	return Result{Path: to.Path, Format: to.Format, Size: to.Size, Allocated: allocated(to.Path), SHA256: sum, Took: time.Since(start)}, nil
}

// Discard removes what a copy that was killed left of a target which was vacant
// when it began. As long as the temporary name is there, the final one was never
// given, and a file that has it is somebody else's.
func Discard(path string) error {
	err := os.Remove(path + partial)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(path)
	}
	return err
}

// Vacant is ErrTarget when a file already has the target's name.
func Vacant(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s exists; move it away or choose another folder", ErrTarget, path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return nil
}

// explain names the commonest cause, which qemu-img reports in its own words.
func explain(err error) error {
	if e, ok := errors.AsType[*proc.Error](err); ok && strings.Contains(e.Stderr, "No space left on device") {
		return fmt.Errorf("%w: its storage is full: make room or choose another folder: %w", ErrTarget, err)
	}
	return err
}

// settle reads the file back as it is and brings it to stable storage.
func settle(ctx context.Context, path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrTarget, err)
	}
	hash := sha256.New()
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		_, err := io.CopyN(hash, f, 64<<20)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// publish gives a whole file its final name, never over another file.
func publish(temporary, final string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temporary, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot: exFAT, NFS
		if err = Vacant(final); err == nil {
			err = os.Rename(temporary, final)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTarget, final, err)
	}
	dir, err := os.Open(filepath.Dir(final))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func allocated(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // not made yet
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// percent reads qemu-img's progress, "    (12.34/100%)\r", as it comes.
type percent struct {
	report func(float64)
	rest   []byte
}

func (p *percent) Write(text []byte) (int, error) {
	p.rest = append(p.rest, text...)
	lines := bufio.NewScanner(bytes.NewReader(p.rest))
	lines.Split(splitReturns)
	used := 0
	for lines.Scan() {
		used += len(lines.Bytes()) + 1
		number, _, ok := strings.Cut(strings.TrimLeft(lines.Text(), " (\n"), "/100%)")
		if done, err := strconv.ParseFloat(number, 64); ok && err == nil {
			p.report(done)
		}
	}
	p.rest = p.rest[min(used, len(p.rest)):]
	return len(text), nil
}

func splitReturns(data []byte, _ bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\r'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}
