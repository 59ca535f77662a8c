package guests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"hyper2kvm/pipeline/accel"
)

// ErrNotRoot is a build by somebody who cannot own a guest's files.
var ErrNotRoot = errors.New("building a guest needs root")

// record is the file that says what a guest is; it is written last.
const record = "guest.json"

// build is one guest in the making. Nothing in dir has its final name.
type build struct {
	Guest
	log     *slog.Logger
	cache   string // where guests and bases stay
	debs    string // where packages stay
	dir     string // scratch, and the guest to be
	baseTar string
	mirror  mirror
	accel   accel.Choice
	// keyboard is that of the control boot.
	keyboard keyboard
}

// Dir is the folder of all guests: hyper2kvm/guests in the user's cache.
func Dir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "hyper2kvm", "guests"), nil
}

// Build returns the guest from the cache, or builds it there in a few minutes,
// for which it needs root (ErrNotRoot), a Debian mirror and the programs whose
// Build is set in proc.Programs. Builds of one guest wait for each other, and
// an interrupted one leaves nothing under the guest's name.
func Build(ctx context.Context, r Recipe, log *slog.Logger) (Guest, error) {
	cache, err := Dir()
	if err != nil {
		return Guest{}, err
	}
	id, err := r.id()
	if err != nil {
		return Guest{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Guest{}, err
	}
	dir := filepath.Join(cache, id)
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return Guest{}, err
	}
	defer unlock()
	guest, err := Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		guest, err = makeGuest(ctx, r, cache, dir, log)
	}
	if err != nil {
		return Guest{}, fmt.Errorf("guest %s: %w", r.Name, err)
	}
	return guest, nil
}

// Open reads a built guest; fs.ErrNotExist means that dir holds none.
func Open(dir string) (Guest, error) {
	text, err := os.ReadFile(filepath.Join(dir, record))
	if err != nil {
		return Guest{}, err
	}
	var g Guest
	if err := json.Unmarshal(text, &g); err != nil {
		return Guest{}, fmt.Errorf("%s: %w", dir, err)
	}
	return g.in(dir), nil
}

// in is the guest with its files in a folder.
func (g Guest) in(dir string) Guest {
	g.Dir = dir
	g.VMDKs = nil
	for i := range g.Disks {
		g.VMDKs = append(g.VMDKs, filepath.Join(dir, g.diskFile(i)))
	}
	g.VMDK = g.VMDKs[0]
	g.VMX = filepath.Join(dir, g.Name+".vmx")
	return g
}

// makeGuest builds into a scratch folder beside dir, which becomes dir at the end.
func makeGuest(ctx context.Context, r Recipe, cache, dir string, log *slog.Logger) (g Guest, err error) {
	if os.Geteuid() != 0 {
		return Guest{}, ErrNotRoot
	}
	scratch := dir + ".building" // ours alone, by the lock; a killed build left its own
	if err := os.RemoveAll(scratch); err != nil {
		return Guest{}, err
	}
	if err := os.Mkdir(scratch, 0o755); err != nil { // apt's own user enters it
		return Guest{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	choice, err := accel.Probe(ctx)
	if err != nil {
		return Guest{}, err
	}
	b := &build{
		Guest: Guest{Recipe: r, Took: map[string]string{}}.in(filepath.Join(scratch, "guest")),
		log:   log, cache: cache, debs: filepath.Join(cache, "packages"), dir: scratch, accel: choice,
	}
	if err := b.run(ctx); err != nil {
		return Guest{}, err
	}
	if err := os.Rename(b.Dir, dir); err != nil {
		return Guest{}, err
	}
	return Open(dir)
}

// run takes every step in order and says how long each took.
func (b *build) run(ctx context.Context) error {
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"prepare", b.prepare},
		{"base", b.base},
		{"packages", b.root},
		{"kernel", b.keepKernel},
		{"disks", b.disks},
		{"finish boot", b.finish},
		{"export", b.export},
		{"control boot", b.control},
		{"record", b.record},
	}
	for _, step := range steps {
		began := time.Now()
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		took := time.Since(began).Round(100 * time.Millisecond)
		b.Took[step.name] = took.String()
		b.log.Info("built", "guest", b.Name, "step", step.name, "took", took)
	}
	return nil
}

// prepare makes the folders and finds the mirror.
func (b *build) prepare(ctx context.Context) error {
	for _, dir := range []string{b.debs, b.Dir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var err error
	b.mirror, err = hostMirror(ctx)
	return err
}

// record writes what the guest is.
func (b *build) record(context.Context) error {
	sum := sha256.New()
	for _, vmdk := range b.VMDKs {
		size, err := copyFrom(sum, vmdk)
		if err != nil {
			return err
		}
		b.Bytes += size
	}
	b.SHA256 = hex.EncodeToString(sum.Sum(nil))
	text, err := json.MarshalIndent(b.Guest, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Dir, record), append(text, '\n'), 0o644)
}

func copyFrom(to io.Writer, name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return io.Copy(to, f)
}
