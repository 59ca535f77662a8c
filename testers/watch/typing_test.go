package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers"
)

const sesame = `Open, "Sesame" 1~`

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
		fatal string // in the sign that ends the boot; "": it goes on
	}{
		{"a prompt that shows nothing", asks, teletype{echo: silence, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt that shows stars", "\r\n" + asks, teletype{echo: stars, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"systemd's prompt", "\U0001f510 Please unlock disk sda2_crypt:  (press TAB for no echo) ", teletype{answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt beside which the kernel speaks", asks + "[    7.123456] random: crng init done\r\n", teletype{echo: silence, answer: opens}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt that takes its time", asks, teletype{echo: silence, answer: func(string) string { return "" }}, []Passphrase{mine}, []string{sesame}, ""},
		{"a prompt that does not take it", asks, teletype{echo: silence, answer: func(string) string { return again }}, []Passphrase{mine},
			[]string{sesame, sesame}, "typed 2 times and did not open"},
		{"a prompt that shows what is typed", asks, teletype{echo: shell, answer: opens}, []Passphrase{mine}, nil, "can be read"},
		{"a prompt that something else follows", asks + "\r\nWelcome!\r\n", teletype{echo: shell, answer: opens}, []Passphrase{mine}, nil, "the passphrase is not typed"},
		{"a shell behind a prompt", asks + "\r\n(initramfs) ", teletype{echo: silence, answer: opens}, []Passphrase{mine}, nil, "(initramfs)"},
		{"a shell", "(initramfs) ", teletype{echo: silence, answer: opens}, []Passphrase{mine}, nil, "(initramfs)"},
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
		for _, where := range []string{onSerial, onScreen} {
			t.Run(c.why+" on "+where, func(t *testing.T) {
				g := c.guest
				if c.why == "systemd's prompt" {
					g.echo = tab() // anew
				}
				r, log := asked(t, where, &g, c.says, c.given...)
				if !slices.Equal(g.lines, c.lines) {
					t.Errorf("typed %q, want %q", g.lines, c.lines)
				}
				if failed := r.session.End == testers.Failed; failed != (c.fatal != "") || !strings.Contains(r.session.Detail, c.fatal) {
					t.Errorf("the end is %q: %s, want %q in it", r.session.End, r.session.Detail, c.fatal)
				}
				if typed := strings.Contains(log, "the passphrase was typed"); typed != (c.lines != nil && c.fatal == "") && len(c.lines) < maxTries {
					t.Errorf("the session says that it was typed: %v", typed)
				}
				for _, seen := range []string{"Sesame", fmt.Sprintf("%x", sesame), "the other one"} {
					if strings.Contains(log, seen) {
						t.Errorf("%q is in %s", seen, log)
					}
				}
			})
		}
	}
}

// A message of the kernel's may come while two letters are tried: that is once more.
func TestAPromptIsTriedAgain(t *testing.T) {
	n := 0
	g := &teletype{answer: func(string) string { return "\r\ncryptsetup: sda2_crypt: set up successfully\r\n" }, echo: func(byte) string {
		if n++; n%2 == 1 && n < 2*maxTrials {
			return fmt.Sprintf("[    7.%06d] random: crng init done\r\n", n)
		}
		return ""
	}}
	if r, _ := asked(t, onSerial, g, asks, NewPassphrase([]byte(sesame), "sda2_crypt")); len(g.lines) != 1 {
		t.Errorf("typed %d lines, end %q", len(g.lines), r.session.Detail)
	}
}

// Each boot has its own prompts.
func TestAResetForgetsWhatWasTyped(t *testing.T) {
	r := observed(t)
	r.spec.Passphrases = []Passphrase{NewPassphrase([]byte(sesame), "sda2_crypt")}
	r.watch.typing.hear(asks)
	r.watch.typing.of(keyboard{}).tries["sda2_crypt"] = maxTries
	if err := r.reset(t.Context(), qmp.Event{At: start}); err != nil {
		t.Fatal(err)
	}
	if is := r.watch.typing.of(keyboard{}); is.tries["sda2_crypt"] != 0 || r.watch.typing.heard != "" {
		t.Errorf("after a reset %+v, %q", is, r.watch.typing.heard)
	}
}

// A name may be the start of another's.
func TestThePassphraseIsTheOneOfTheLongestName(t *testing.T) {
	all := []Passphrase{NewPassphrase([]byte("a"), "u1", "sda2"), NewPassphrase([]byte("b"), "u2", "sda20"), NewPassphrase([]byte("c"), "u3", "sda")}
	for prompt, want := range map[string]string{"disk sda2: ": "a", "disk sda20: ": "b", "disk sda: ": "c", "for /dev/disk/by-uuid/u3": "c"} {
		if p, why := chosen(all, prompt); why != "" || string(p.secret) != want {
			t.Errorf("%q: %q, %s, want %q", prompt, p.secret, why, want)
		}
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

// On a text screen the kernel begins on top of what was there before.
const overGRUB = "Please unlock disk sda2_crypt: 1.16.2-1)\nMachine UUID 564d9b31\nBooting from Hard Disk...\nGRUB loading.\n"

func TestAPromptOnAScreenIsAnsweredOnce(t *testing.T) {
	type look struct {
		text   string
		stands bool
	}
	a := asking{}
	for i, c := range []look{{overGRUB, false}, {overGRUB, true}, {overGRUB + "[    7.123456] x\n", false}, {overGRUB + "[    7.123456] x\n", true}} {
		if got := a.stands(c.text, false); got != c.stands {
			t.Errorf("look %d: %v, want %v", i, got, c.stands)
		}
	}
	a.answered, a.prompt = a.asked, ""
	again := strings.Replace(overGRUB, "Machine", asks+"\nMachine", 1)
	for i, c := range []look{{overGRUB, false}, {overGRUB, false}, {again, false}, {again, true}, {"a new screen", false}, {asks, false}, {asks, true}} {
		if got := a.stands(c.text, false); got != c.stands {
			t.Errorf("look %d after the answer: %v, want %v", i, got, c.stands)
		}
	}
}

func TestAPromptOnTopOfAnOldScreenIsAnswered(t *testing.T) {
	g := &teletype{echo: silence, answer: func(string) string { return "\r\nsda2_crypt: set up successfully\r\n" }}
	if r, _ := asked(t, onScreen, g, overGRUB, NewPassphrase([]byte(sesame), "sda2_crypt")); !slices.Equal(g.lines, []string{sesame}) {
		t.Errorf("typed %q, end %q", g.lines, r.session.Detail)
	}
}
