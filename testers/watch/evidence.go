package watch

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxScreens is how many screenshots are kept: the first, the last, and what
// lies between them ever more thinly.
const maxScreens = 12

// evidence is the folder of one session:
//
//	serial.log     what the guest wrote to its serial port
//	screen-*.png   screenshots, by seconds since power on
//	screen.txt     the last text screen
//	qmp.jsonl      QEMU's events
//	reports.jsonl  the probe's authentic reports
//	lan.json       what was witnessed from outside, for each boot and NIC
//	session.json   all of the session as it was judged
type evidence struct {
	dir     string
	qmp     *os.File
	reports *os.File
	screens []string // file names, oldest first
	seen    map[[sha256.Size]byte]bool
}

func newEvidence(dir string) (*evidence, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	e := &evidence{dir: dir, seen: map[[sha256.Size]byte]bool{}}
	if err := e.clear(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	var err error
	if e.qmp, err = os.OpenFile(e.path("qmp.jsonl"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if e.reports, err = os.OpenFile(e.path("reports.jsonl"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("evidence: %w", err), e.qmp.Close())
	}
	return e, nil
}

func (e *evidence) path(name string) string { return filepath.Join(e.dir, name) }

// clear removes what a session of before left in the folder and this one may
// not write again.
func (e *evidence) clear() error {
	old, err := filepath.Glob(e.path("screen-*.png"))
	if err != nil {
		return err
	}
	for _, path := range append(old, e.path("screen.txt"), e.path("lan.json"), e.path("session.json")) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// screen keeps a screenshot unless the same was there before: a cursor blinks.
func (e *evidence) screen(picture []byte, since time.Duration) error {
	sum := sha256.Sum256(picture)
	if len(picture) == 0 || e.seen[sum] {
		return nil
	}
	e.seen[sum] = true
	name := fmt.Sprintf("screen-%05.0fs.png", since.Seconds())
	if err := os.WriteFile(e.path(name), picture, 0o600); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	if n := len(e.screens); n == 0 || e.screens[n-1] != name {
		e.screens = append(e.screens, name)
	}
	return e.thin()
}

// thin drops every second screenshot but the first and the last when there are
// too many.
func (e *evidence) thin() error {
	if len(e.screens) <= maxScreens {
		return nil
	}
	var kept []string
	for i, name := range e.screens {
		if i%2 == 0 || i == len(e.screens)-1 {
			kept = append(kept, name)
			continue
		}
		if err := os.Remove(e.path(name)); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
	}
	e.screens = kept
	return nil
}

func (e *evidence) text(name, text string) error {
	if err := os.WriteFile(e.path(name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

func (e *evidence) json(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("evidence: %s: %w", name, err)
	}
	return e.text(name, string(b)+"\n")
}

// line appends one record to qmp.jsonl or reports.jsonl.
func line(f *os.File, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return nil
}

func (e *evidence) close() error { return errors.Join(e.qmp.Close(), e.reports.Close()) }
