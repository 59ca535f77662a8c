package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/screen"
)

// teletype is a guest, as far as it asks for a passphrase. Its answer to what is typed, a
// line or a character, is what it prints.
type teletype struct {
	echo   func(c byte) string
	answer func(line string) string
	line   []byte
	lines  []string
}

func (g *teletype) take(c byte) string {
	switch c {
	case screen.Enter:
		g.lines, g.line = append(g.lines, string(g.line)), nil
		return g.answer(g.lines[len(g.lines)-1])
	case screen.Backspace:
		g.line = g.line[:max(0, len(g.line)-1)]
	default:
		g.line = append(g.line, c)
	}
	return g.echo(c)
}

func (g *teletype) serve(conn net.Conn) {
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if _, err := conn.Write([]byte(g.take(b[0]))); err != nil {
			return
		}
	}
}

// desk is a machine with a teletype for its text screen and keyboard.
type desk struct {
	Machine
	guest *teletype
	text  string
}

// textMode is a picture of a text screen, by its size.
var textMode = sync.OnceValues(func() ([]byte, error) {
	var b bytes.Buffer
	err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 720, 400)))
	return b.Bytes(), err
})

func (d *desk) Picture(context.Context) ([]byte, error) { return textMode() }

func (d *desk) Memory(_ context.Context, _, size int64) ([]byte, error) {
	memory := make([]byte, size)
	row := 0
	for line := range strings.Lines(testers.Plain(d.text)) {
		for i, c := range []byte(strings.TrimSuffix(line, "\n")) {
			memory[2*(80*row+i)] = c
		}
		row++
	}
	return memory, nil
}

func (d *desk) Blocks(context.Context) (Operations, error) { return Operations{}, nil }
func (d *desk) Done() <-chan struct{}                      { return nil }

func (d *desk) Press(_ context.Context, keys []int) error {
	for c := range byte(128) {
		if slices.Equal(screen.Keys(c), keys) {
			said := d.guest.take(c)
			for ; strings.HasPrefix(said, "\b \b"); said = said[3:] {
				d.text = d.text[:len(d.text)-1]
			}
			d.text += said
			return nil
		}
	}
	return fmt.Errorf("keys %v are none", keys)
}

func silence(byte) string { return "" }

func stars(c byte) string {
	if c == screen.Backspace {
		return "\b \b"
	}
	return "*"
}

// tab is systemd's prompt, that of Debian's askpass where systemd runs too: the first
// key takes back what it says of the TAB key.
func tab() func(c byte) string {
	first := true
	return func(c byte) string {
		said := stars(c)
		if first {
			said = strings.Repeat("\b \b", len("(press TAB for no echo) ")) + said
		}
		first = false
		return said
	}
}

func shell(c byte) string { return string(rune(c)) }

const asks = "Please unlock disk sda2_crypt: "

// asked observes a machine that says something on its serial port or its screen, until
// its session ends or some minutes have passed. log is all that it left.
func asked(t *testing.T, where string, g *teletype, says string, passphrases ...Passphrase) (r *run, log string) {
	t.Helper()
	dir := t.TempDir()
	serialLog, err := os.Create(filepath.Join(dir, "serial.log"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEvidence(dir)
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		machine := &desk{guest: g}
		r = &run{spec: Spec{Passphrases: passphrases, Progress: func(s string) { fmt.Fprintln(&told, s) }}, limits: Spec{Accel: "kvm"}.limits(), evidence: e,
			serial: &serial{conn: ours, log: serialLog}, machine: machine, session: testers.Session{Started: time.Now(), Boots: []testers.Boot{{At: time.Now()}}}}
		r.watch.alive = time.Now()
		if where == onSerial {
			go g.serve(theirs)
			r.serial.write([]byte(says))
		} else {
			machine.text = says
		}
		go func() {
			for b := make([]byte, 100); ; {
				n, err := ours.Read(b)
				if r.serial.write(b[:n]); err != nil {
					return
				}
			}
		}()
		for range 200 {
			time.Sleep(time.Second)
			if err := r.tick(t.Context()); err != nil {
				t.Error(err)
			}
			if r.session.End != "" {
				break
			}
		}
		ours.Close()
		theirs.Close()
	})
	return r, left(t, r, e, told.String())
}

// left is all that a session leaves behind.
func left(t *testing.T, r *run, e *evidence, log string) string {
	t.Helper()
	if err := errors.Join(e.json("session.json", r.session), e.text("screen.txt", r.watch.text), e.close()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(e.path(f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		log += string(text)
	}
	return log
}
