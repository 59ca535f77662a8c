package watch

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/screen"
)

const sesame = `Open, "Sesame" 1~`

// teletype is a guest on a serial port, as far as it asks for a passphrase. Its answer
// to what is typed, a line or a character, is what it prints.
type teletype struct {
	echo   func(c byte) string
	answer func(line string) string
	lines  []string
}

func (g *teletype) serve(conn net.Conn) {
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		said := g.echo(b[0])
		switch b[0] {
		case screen.Enter:
			g.lines = append(g.lines, string(line))
			said, line = g.answer(string(line)), nil
		case screen.Backspace:
			line = line[:max(0, len(line)-1)]
		default:
			line = append(line, b[0])
		}
		if _, err := conn.Write([]byte(said)); err != nil {
			return
		}
	}
}

func silence(byte) string { return "" }

func stars(c byte) string {
	if c == screen.Backspace {
		return "\b \b"
	}
	return "*"
}

func shell(c byte) string { return string(rune(c)) }

const asks = "Please unlock disk sda2_crypt: "

// asked runs a boot whose serial console says something, and is answered for a minute.
func asked(t *testing.T, g *teletype, says string, passphrases ...Passphrase) (r *run, log string) {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "serial")
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		r = &run{spec: Spec{Passphrases: passphrases, Progress: func(s string) { fmt.Fprintln(&told, s) }}, limits: Spec{Accel: "kvm"}.limits(),
			serial: &serial{conn: ours, log: file}, session: testers.Session{Boots: []testers.Boot{{}}}}
		go g.serve(theirs)
		go func() {
			for b := make([]byte, 100); ; {
				n, err := ours.Read(b)
				if r.serial.write(b[:n]); err != nil {
					return
				}
			}
		}()
		r.serial.write([]byte(says))
		for range 60 {
			time.Sleep(time.Second)
			r.readSerial(time.Now())
			if err := r.answer(t.Context(), serialConsole{r}, r.watch.typing.heard, time.Now()); err != nil {
				t.Error(err)
			}
			r.unanswered(time.Now())
		}
		ours.Close()
	})
	written, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	session, err := json.Marshal(r.session)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(written) + string(session) + told.String()
}

func TestAPassphraseIsTypedAtItsPromptAndNowhereElse(t *testing.T) {
	mine := NewPassphrase([]byte(sesame), "4d2f", "sda2_crypt")
	again := "\r\ncryptsetup: ERROR: sda2_crypt: cryptsetup failed, bad password or options?\r\n" + asks
	opens := func(string) string { return "\r\ncryptsetup: sda2_crypt: set up successfully\r\n" }
	for _, c := range []struct {
		why   string
		says  string
		guest teletype
		given []Passphrase
		lines []string
		fatal string // in the note of the sign; "": the boot goes on
	}{
		{"a prompt that shows nothing", asks, teletype{echo: silence, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt that shows stars", "\r\n" + asks, teletype{echo: stars, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt beside which the kernel speaks", asks + "[    7.123456] random: crng init done\r\n", teletype{echo: silence, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt that does not take it", asks, teletype{echo: silence, answer: func(string) string { return again }}, []Passphrase{mine},
			[]string{sesame, sesame}, "typed 2 times and does not open"},
		{"a prompt that shows what is typed", asks, teletype{echo: shell, answer: opens}, []Passphrase{mine}, nil, "can be read"},
		{"a prompt that something else follows", asks + "\r\nWelcome!\r\n", teletype{echo: silence, answer: opens}, []Passphrase{mine}, nil, "not the last"},
		{"a shell behind a prompt", asks + "\r\n(initramfs) ", teletype{echo: silence, answer: opens}, []Passphrase{mine}, nil, ""},
		{"a shell", "(initramfs) ", teletype{echo: silence, answer: opens}, []Passphrase{mine}, nil, ""},
		{"a prompt for which none was given", asks, teletype{echo: silence, answer: opens}, []Passphrase{NewPassphrase(nil, "sda2_crypt"), mine}, nil, "no --key was given"},
		{"a prompt for an unknown device", "Please unlock disk other: ", teletype{echo: silence, answer: opens},
			[]Passphrase{mine, NewPassphrase([]byte("x"), "data")}, nil, "names none of the devices"},
		{"a key that is no text", asks, teletype{echo: silence, answer: opens}, []Passphrase{NewPassphrase([]byte("\x00\x01"), "sda2_crypt")}, nil, "a US keyboard has not"},
		{"two devices", asks, teletype{echo: silence, answer: func(line string) string {
			if line == sesame {
				return "\r\nPlease unlock disk sda20_crypt: "
			}
			return opens(line)
		}}, []Passphrase{mine, NewPassphrase([]byte("the other one"), "sda20_crypt")}, []string{sesame, "the other one"}, ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			r, log := asked(t, &c.guest, c.says, c.given...)
			if !slices.Equal(c.guest.lines, c.lines) {
				t.Errorf("typed %q, want %q", c.guest.lines, c.lines)
			}
			sign, fatal := testers.Fatal(r.boot().Signs)
			if fatal != (c.fatal != "" || strings.Contains(c.says, "(initramfs)")) || !strings.Contains(sign.Note, c.fatal) {
				t.Errorf("fatal %v: %v, want %q", fatal, sign, c.fatal)
			}
			for _, seen := range []string{"Sesame", fmt.Sprintf("%x", sesame), "the other one"} {
				if strings.Contains(log, seen) {
					t.Errorf("%q is in %s", seen, log)
				}
			}
		})
	}
}

func TestAPassphrasePrintsAsNothing(t *testing.T) {
	p := NewPassphrase([]byte("sesame"), "sda2_crypt")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, Spec{Passphrases: []Passphrase{p}}) + fmt.Sprintf(verb, &p); strings.Contains(text, "sesame") || strings.Contains(text, "115") || strings.Contains(text, "736573") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestWhatIsNotOnAUSKeyboardIsNotTyped(t *testing.T) {
	for secret, fit := range map[string]bool{
		"correct horse": true, `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~` + "`": true, "aZ09": true,
		"": true, "pässwort": false, "line\n": false, "line\r": false, "\x7f": false, "\x00\xff": false, strings.Repeat("a", 513): false,
	} {
		if p := NewPassphrase([]byte(secret), "x"); (p.unfit == "") != fit {
			t.Errorf("%q: %q", secret, p.unfit)
		}
	}
}

func TestAPromptOnAScreenIsAnsweredOnce(t *testing.T) {
	a := asking{}
	for i, c := range []struct {
		text   string
		stands bool
	}{{asks, false}, {asks, true}, {asks + "\n[    7.123456] x\n", true}} {
		if got := a.stands(c.text); got != c.stands {
			t.Errorf("look %d: %v, want %v", i, got, c.stands)
		}
	}
	a.answered, a.prompt = a.asked, ""
	for i, c := range []struct {
		text   string
		stands bool
	}{{asks, false}, {asks, false}, {asks + "\nbad password\n" + asks, false}, {asks + "\nbad password\n" + asks, true}, {"a new screen", false}, {asks, false}, {asks, true}} {
		if got := a.stands(c.text); got != c.stands {
			t.Errorf("look %d after the answer: %v, want %v", i, got, c.stands)
		}
	}
}
