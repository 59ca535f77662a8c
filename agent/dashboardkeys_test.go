package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// standIn is a folder with a program that stands in for systemctl and writes down what it
// is asked for. It does not prove that systemd does that.
func standIn(t *testing.T) (folder, asked string) {
	t.Helper()
	folder = t.TempDir()
	asked = filepath.Join(folder, "asked")
	if err := os.WriteFile(filepath.Join(folder, "systemctl"), []byte("#!/bin/sh\necho \"$@\" >>"+asked+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return folder, asked
}

// becomes waits until a file holds what it is to hold.
func becomes(t *testing.T, path, want string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err == nil && string(text) == want {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s holds %q, %v, want %q", path, text, err, want)
		}
	}
}

func TestKeysPowerTheMachineOff(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	programs, asked := standIn(t)
	p := openPTY(t, 80, 25)
	screened(t, p, "linux", folder, programs)
	p.shows(t, "Agent: does not answer")
	p.press(t, "\x1b[21~") // F10
	p.shows(t, "P power off")
	p.press(t, "ry")
	p.shows(t, `(?s)The agent does not answer, so whether migrations run is not known.*Press Y once more to restart`)
	p.press(t, "\x1b")
	p.shows(t, "F10 power")
	servedIn(t, folder)
	p.shows(t, "Agent: ready")
	p.press(t, "ppy")
	p.shows(t, "This machine is told to power off")
	becomes(t, asked, "poweroff\n")
}

func TestKeysSetUpTheNetwork(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	programs, asked := standIn(t)
	p := openPTY(t, 80, 25)
	screened(t, p, "linux", folder, programs)
	p.shows(t, "Agent: does not answer")
	p.press(t, "\x1b[[B") // F2 of Linux's console
	p.shows(t, `(?s)Network settings.*< any >.*< by DHCP >`)
	p.press(t, "\x1b[Amover 7\r") // the last field
	p.shows(t, `hostname: "mover 7" is no host name: write letters`)
	p.press(t, "\x7f\x7f7\r")
	p.shows(t, "Press Y to apply it")
	if _, err := os.Stat(asked); err == nil {
		t.Error("it is applied before that is asked for")
	}
	p.press(t, "y")
	p.shows(t, "The network is set up as you said")
	becomes(t, asked, "restart systemd-networkd.service systemd-resolved.service\n")
	becomes(t, filepath.Join(folder, "etc/hostname"), "mover7\n")
	p.press(t, "n")
	p.shows(t, `Host name +mover7`)
}

// A migration that ends is told of with its verdict.
func TestTheScreenTellsHowMigrationsEnd(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	socket := servedIn(t, folder)
	if err := os.WriteFile(filepath.Join(folder, "s", "empty.raw"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p := openPTY(t, 80, 40)
	screened(t, p, "linux", folder, "")
	p.shows(t, "Agent: ready")
	reply, err := local(socket).Post("http://agent/api/v1/migrations", "application/json", strings.NewReader(`{"spec": {"mode": "inspect", "source": {"storage": "s", "path": "empty.raw"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode != http.StatusAccepted {
		t.Fatalf("it gets %d, %v", reply.StatusCode, err)
	}
	p.shows(t, `(?s)Ended last.*empty .*failed: `)
}

func TestAShellIsOpenedIfTheSettingsAllowIt(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	p := openPTY(t, 80, 25)
	screened(t, p, "linux", folder, "")
	p.shows(t, "Agent: does not answer")
	p.press(t, "\x1b[24~") // F12
	p.shows(t, "There is no shell here: set screen.shell in the agent's settings")

	text, err := os.ReadFile(filepath.Join(folder, "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "agent.yaml"), append(text, "screen: {shell: true}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	p = openPTY(t, 80, 25)
	screened(t, p, "linux", folder, "")
	p.shows(t, "F12 shell")
	p.press(t, "s")
	p.hides(t, "This appliance")
	p.press(t, "echo an$((40+2))swer; exit\r")
	p.shows(t, "(?s)This appliance.*The shell has ended")
	p.wrote(t, "an42swer")
}

// styles are those that are drawn with: bold, reverse, and the first eight colours.
var styles = regexp.MustCompile(`\x1b\[((?:1|7|3[0-7])?(?:;(?:1|7|3[0-7]))*)m`)

// drawing is what the terminals that are told apart know of what is written to them
// besides styles: moving the cursor, clearing, and switching modes that others pass over.
//
// Source: console_codes(4); VT220 Programmer Reference Manual, EK-VT220-RM, chapter 4.
var drawing = regexp.MustCompile("\x1b(?:M|\\[[0-9;]*[ABCDHJKdG`X@PLMr]|\\[[?>][0-9;]*[hlWmu]|\\[\\?u)")

func TestTerminalsAreWrittenWhatTheyKnow(t *testing.T) {
	folder := t.TempDir()
	withHTTPS(t, folder)
	servedIn(t, folder)
	for terminal, colours := range map[string]bool{"linux": true, "vt220": false, "xterm-256color": true} {
		p := openPTY(t, 0, 0) // as a serial line, whose other end has no size
		screened(t, p, terminal, folder, "")
		p.shows(t, `(?s)hyper2kvm.*Agent: ready.*F10 power`)
		p.press(t, "p")
		p.shows(t, "P power off")
		text := p.written()
		if found := strings.Contains(text, "\x1b[32m"); found != colours {
			t.Errorf("%s: colours are %v, want %v", terminal, found, colours)
		}
		rest := drawing.ReplaceAllString(styles.ReplaceAllString(text, ""), "")
		if i := strings.IndexFunc(rest, func(r rune) bool { return r >= 0x7f || r < ' ' && !strings.ContainsRune("\r\n\b\t", r) }); i >= 0 {
			t.Errorf("%s: it is written %.40q", terminal, rest[i:])
		}
	}
}
