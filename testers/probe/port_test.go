package probe

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/testers/probe/wire"
)

// guest is a fake probe at the other end of the port.
type guest struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Scanner
	key  []byte
}

func connect(t *testing.T) (*Port, *guest) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe")
	p, err := Listen(path, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return p, &guest{t, conn, bufio.NewScanner(conn), key}
}

func (g *guest) say(lines ...any) {
	g.t.Helper()
	for _, l := range lines {
		text, isText := l.(string)
		if !isText {
			b, err := json.Marshal(l)
			if err != nil {
				g.t.Fatal(err)
			}
			text = string(b)
		}
		if _, err := fmt.Fprintln(g.conn, text); err != nil {
			g.t.Fatal(err)
		}
	}
}

// hear is the next line from the host.
func (g *guest) hear() wire.ToGuest {
	g.t.Helper()
	if !g.in.Scan() {
		g.t.Fatalf("the host says nothing: %v", g.in.Err())
	}
	var m wire.ToGuest
	if err := json.Unmarshal(g.in.Bytes(), &m); err != nil {
		g.t.Fatal(err)
	}
	return m
}

func (g *guest) challenged() string {
	g.t.Helper()
	g.say(wire.ToHost{Hello: true})
	return g.hear().Challenge
}

func (g *guest) signed(key []byte, nonce, boot string) wire.ToHost {
	g.t.Helper()
	m, err := wire.Sign(key, nonce, wire.Report{BootID: boot})
	if err != nil {
		g.t.Fatal(err)
	}
	return m
}

// next is the next authentic report; by then all lines before it were judged.
func next(t *testing.T, p *Port) Received {
	t.Helper()
	select {
	case r := <-p.Reports():
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no report")
		return Received{}
	}
}

func TestAnAuthenticReportArrives(t *testing.T) {
	p, g := connect(t)
	g.say(g.signed(g.key, g.challenged(), "one"))
	if r := next(t, p); r.BootID != "one" || r.At.IsZero() || p.Forged() != 0 {
		t.Errorf("report = %+v, forged %d", r, p.Forged())
	}
}

func TestForgedReportsAreCountedAndNeverArrive(t *testing.T) {
	for _, c := range []struct {
		why   string
		lines func(g *guest, nonce string) []any
	}{
		{"another key", func(g *guest, nonce string) []any {
			return []any{g.signed(make([]byte, wire.KeySize), nonce, "forged")}
		}},
		{"a nonce that was never sent", func(g *guest, _ string) []any { return []any{g.signed(g.key, "0123", "forged")} }},
		{"no nonce at all", func(g *guest, _ string) []any { return []any{g.signed(g.key, "", "forged")} }},
		{"a report changed after it was signed", func(g *guest, nonce string) []any {
			m := g.signed(g.key, nonce, "true")
			m.Report = json.RawMessage(strings.Replace(string(m.Report), "true", "forged", 1))
			return []any{m}
		}},
		{"no JSON", func(*guest, string) []any { return []any{"}{"} }},
		{"an endless line", func(*guest, string) []any { return []any{strings.Repeat("x", 3*wire.MaxLine)} }},
	} {
		p, g := connect(t)
		g.say(c.lines(g, g.challenged())...)
		g.say(g.signed(g.key, g.challenged(), "true"))
		if r := next(t, p); r.BootID != "true" || p.Forged() != 1 {
			t.Errorf("%s: report of boot %q and %d forged, want the true one and 1", c.why, r.BootID, p.Forged())
		}
	}
}

func TestAReplayIsForged(t *testing.T) {
	p, g := connect(t)
	once := g.signed(g.key, g.challenged(), "one")
	g.say(once, once)
	a := next(t, p)
	g.say(g.signed(g.key, g.challenged(), "two"))
	if b := next(t, p); a.BootID != "one" || b.BootID != "two" || p.Forged() != 1 {
		t.Errorf("boots %q and %q, forged %d, want one, two and 1", a.BootID, b.BootID, p.Forged())
	}
}

func TestAReportOfBeforeAResetIsAskedForAgain(t *testing.T) {
	p, g := connect(t)
	stale := g.challenged()
	p.Restart()
	g.say(g.signed(g.key, stale, "old"))
	g.say(g.signed(g.key, g.hear().Challenge, "new"))
	if r := next(t, p); r.BootID != "new" || p.Forged() != 0 {
		t.Errorf("boot %q, forged %d, want new and 0", r.BootID, p.Forged())
	}
}

func TestALineThatAResetCutIsNotForgedButASecondIs(t *testing.T) {
	p, g := connect(t)
	p.Restart()
	g.say(`{"nonce":"12`, `{"nonce":"34`)
	g.say(g.signed(g.key, g.challenged(), "new"))
	if r := next(t, p); r.BootID != "new" || p.Forged() != 1 {
		t.Errorf("boot %q, forged %d, want new and 1", r.BootID, p.Forged())
	}
}

func TestCommandsReachTheGuest(t *testing.T) {
	p, g := connect(t)
	g.challenged() // the port has its connection by then
	if err := p.Do(wire.Reboot); err != nil {
		t.Fatal(err)
	}
	if m := g.hear(); m.Do != wire.Reboot {
		t.Errorf("guest hears %+v, want a reboot", m)
	}
}

func TestFilesNameParentsBeforeChildrenAndKeepTheKeyPrivate(t *testing.T) {
	if _, err := Binary(); err != nil {
		t.Skip(err)
	}
	files, err := Files(make([]byte, wire.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{"/usr/lib": true, "/etc/systemd/system": true}
	wants := 0
	for _, f := range files {
		if !made[filepath.Dir(f.Path)] {
			t.Errorf("%s comes before its folder", f.Path)
		}
		made[f.Path] = f.Mode.IsDir()
		if strings.HasSuffix(f.Path, ".json") && f.Mode != 0o600 {
			t.Errorf("%s holds the key and has mode %v", f.Path, f.Mode)
		}
		if f.Mode.Type() == fs.ModeSymlink && made[f.LinkTo] == false && f.LinkTo == "/etc/systemd/system/"+unitName {
			wants++
		}
	}
	if wants != len(targets) {
		t.Errorf("%d targets want the probe, want %d", wants, len(targets))
	}
}

func TestAKeyOfTheWrongSizeIsRefused(t *testing.T) {
	if _, err := Files([]byte("short")); err == nil {
		t.Error("a key of 5 bytes was taken")
	}
}

func TestSerialConsole(t *testing.T) {
	for _, c := range []struct{ config, want string }{
		{"\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro  quiet \n", "\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro  quiet console=tty0 console=ttyS0,115200 \n"},
		{"linuxefi /vmlinuz console=tty0\r\n", "linuxefi /vmlinuz console=tty0 console=ttyS0,115200\r\n"},
		{"options $kernelopts", "options $kernelopts console=tty0 console=ttyS0,115200"},
		{"linux16 /vmlinuz console=ttyS0,9600\n", "linux16 /vmlinuz console=ttyS0,9600\n"},
		{"\toptions  \"root=UUID=1 ro\"\n", "\toptions  \"root=UUID=1 ro console=tty0 console=ttyS0,115200\"\n"},
		{"options\troot=UUID=1\n", "options\troot=UUID=1 console=tty0 console=ttyS0,115200\n"},
		{"linux /vmlinuz ro \\\n  quiet\n", "linux /vmlinuz ro  console=tty0 console=ttyS0,115200\\\n  quiet\n"},
		{"kernel /vmlinuz ro root=/dev/sda1\n", "kernel /vmlinuz ro root=/dev/sda1 console=tty0 console=ttyS0,115200\n"},
		{"  KERNEL vmlinuz\n  APPEND ro initrd=i\n", "  KERNEL vmlinuz\n  APPEND ro initrd=i console=tty0 console=ttyS0,115200\n"},
		{"# linux /vmlinuz\ninitrd /initrd\nlinux\n", "# linux /vmlinuz\ninitrd /initrd\nlinux\n"},
		{"", ""},
	} {
		if got := string(SerialConsole([]byte(c.config))); got != c.want {
			t.Errorf("SerialConsole(%q) = %q, want %q", c.config, got, c.want)
		}
		if twice := string(SerialConsole(SerialConsole([]byte(c.config)))); twice != c.want {
			t.Errorf("SerialConsole twice on %q = %q, want %q", c.config, twice, c.want)
		}
	}
}
