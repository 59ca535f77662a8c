package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"
)

// pty is a terminal that a test sits at.
type pty struct {
	master, slave *os.File
	screen        vt10x.Terminal

	mu  sync.Mutex
	raw bytes.Buffer // all that was written to it
}

// openPTY makes a terminal of a size, as unlockpt(3) and ptsname(3) do.
func openPTY(t *testing.T, columns, rows int) *pty {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx") // which can be closed while it is read
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	p := &pty{master: master, slave: slave, screen: vt10x.New(vt10x.WithSize(max(columns, 80), max(rows, 24)))}
	go p.read()
	t.Cleanup(func() {
		if err := errors.Join(slave.Close(), master.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return p
}

func (p *pty) read() {
	b := make([]byte, 1<<12)
	for {
		n, err := p.master.Read(b)
		if err != nil {
			return // the program has ended, and nobody else has it open
		}
		p.mu.Lock()
		p.raw.Write(b[:n])
		p.mu.Unlock()
		_, _ = p.screen.Write(b[:n]) // which never fails
	}
}

func (p *pty) text() string { return p.screen.String() }

// written is all that programs have written.
func (p *pty) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raw.String()
}

func (p *pty) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits until the screen matches a pattern.
func (p *pty) shows(t *testing.T, pattern string) string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	for limit := time.Now().Add(30 * time.Second); !want.MatchString(p.text()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the screen does not match %s:\n%s", pattern, p.text())
		}
	}
	return p.text()
}

// hides waits until the screen has a text no more.
func (p *pty) hides(t *testing.T, text string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); strings.Contains(p.text(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the screen has %q still:\n%s", text, p.text())
		}
	}
}

// wrote waits until what was written matches a pattern.
func (p *pty) wrote(t *testing.T, pattern string) {
	t.Helper()
	want := regexp.MustCompile(pattern)
	for limit := time.Now().Add(30 * time.Second); !want.MatchString(p.written()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("what is written does not match %s:\n%q", pattern, p.written())
		}
	}
}
