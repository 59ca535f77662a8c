package dashboard

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
)

var update = flag.Bool("update", false, "write the screens as they are drawn now")

// at is the time of all that these tests show.
var at = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)

const print = "45:8A:D7:E4:8D:AD:4D:50:2B:EA:4F:D9:7A:96:C2:53:61:A8:E3:F5:85:53:66:4C:C6:86:D7:53:44:64:7D:72"

func links(t *testing.T) []Link {
	t.Helper()
	return []Link{
		{Name: "ens192", Up: true, Addresses: []Address{{Prefix: prefix(t, "192.0.2.10/24"), How: "DHCP"}, {Prefix: prefix(t, "2001:db8::10/64"), How: "automatic"}}},
		{Name: "ens224", Up: true, Addresses: []Address{{Prefix: prefix(t, "198.51.100.7/24"), How: "static", Fault: "another machine has it too"}}},
		{Name: "ens256"},
	}
}

// idle is an appliance on which nothing has happened yet.
func idle(t *testing.T) Status {
	t.Helper()
	return Status{Name: "mover1", Version: "v0.9.0", Links: links(t), Listen: ":443", Fingerprint: print, Agent: Health{Known: true, Answers: true},
		Code: Code{State: CodeMade, Text: "4T2QK-9ZB0M-X7C3H-J5N8W"}, Host: &model.Host{Accelerator: model.HostAcceleratorKvm, Reason: "kvm booted a kernel that answered and powered off"},
		Disk: Disk{Path: "/var/lib/hyper2kvm", Size: 40 << 30, Free: 31 << 30}}
}

// busy is an appliance that works, and on which not all went well.
func busy(t *testing.T) Status {
	t.Helper()
	s := idle(t)
	s.Code = Code{State: CodeNone}
	s.Links = s.Links[:1]
	s.Host = &model.Host{Accelerator: model.HostAcceleratorTcg, Reason: "this host has no /dev/kvm: hardware virtualization is off or not passed on (in vSphere: Expose hardware assisted virtualization to the guest OS)"}
	s.Update = Update{Text: "version 0.9.1 was installed at 2026-11-26 09:00 UTC, started 3 times and was not healthy; 0.9.0 runs", Failed: true}
	s.Problems = []string{"the seed volume: gateway: \"192.0.3.1\" is in none of the networks: write the address of a router in 192.0.2.0/24"}
	s.Jobs = Jobs{
		Running: []Job{
			{Name: "web01", Here: true, Stage: "convert", Done: 17 << 30, Total: 40 << 30},
			{Name: "db02", Here: true, Stage: "inspect"},
			{Name: "mail", Stage: "convert", Done: 40 << 30, Total: 40 << 30},
		},
		Waiting: map[model.State]int{model.StateQueued: 3, model.StatePlanned: 1},
		Ended: []Job{
			{Name: "app07", State: model.StateDone, Verdict: model.VerdictProved, At: at},
			{Name: "app06", State: model.StateFailed, Why: "the storage kvm is full", At: at.Add(-time.Hour)},
			{Name: "app05", State: model.StateCancelled, At: at.Add(-2 * time.Hour)},
		},
	}
	return s
}

// hostile is what guests, servers and files may be called.
func hostile(t *testing.T) Status {
	t.Helper()
	s := busy(t)
	evil := "a\x1b[2J\x1b]0;title\x07b\nc\u202ed\x9b31m" + strings.Repeat("W", 300)
	s.Name, s.Problems, s.Disk.Fault = evil, []string{evil}, evil
	s.Host = &model.Host{Accelerator: model.HostAcceleratorTcg, Reason: evil, Missing: []string{evil}}
	s.Jobs.Running[0].Name, s.Jobs.Ended[1].Why, s.Jobs.Ended[0].Name = evil, evil, evil
	s.Jobs.Running[1].Name = "b\u00fccher-\u4e2d\u6587"
	return s
}

func away(t *testing.T) Status {
	t.Helper()
	s := idle(t)
	s.Agent, s.Fingerprint, s.Code, s.Host = Health{Known: true, Since: at, Why: "connection refused"}, "", Code{}, nil
	return s
}

// ended is away with what the agent has left.
func ended(t *testing.T) Status {
	t.Helper()
	s := away(t)
	s.Agent.Ended = "the record access was written by another version (format 2, and this one knows 1): start that version, if the boot menu has it, or update this appliance"
	return s
}

// drawn is a screen of a size, without how its lines look.
func drawn(s Status, width, height int, keys ...string) string {
	screen := newScreen(context.Background(), Options{Network: Network{
		Now:   func() Form { return Form{Card: "ens192", Static: true, Address: "192.0.2.10/24", Hostname: "mover1"} },
		Check: func(f Form) error { return check[f.Address] },
	}}, nil)
	screen.Update(tea.WindowSizeMsg{Width: width, Height: height})
	screen.Update(statusMsg(s))
	for _, k := range keys {
		screen.Update(tea.KeyPressMsg(pressed(k)))
	}
	return sgr.ReplaceAllString(screen.View().Content, "")
}

var (
	sgr   = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	check = map[string]error{"192.0.2.10/2": errors.New("192.0.2.10/2 says that every address is on this network: write its prefix length")}
	named = map[string]rune{"f2": tea.KeyF2, "f3": tea.KeyF3, "f10": tea.KeyF10, "f12": tea.KeyF12, "esc": tea.KeyEscape, "enter": tea.KeyEnter, "up": tea.KeyUp, "down": tea.KeyDown,
		"left": tea.KeyLeft, "right": tea.KeyRight, "backspace": tea.KeyBackspace, "pgdown": tea.KeyPgDown}
)

func pressed(name string) tea.Key {
	if code, ok := named[name]; ok {
		return tea.Key{Code: code}
	}
	return tea.Key{Code: rune(name[0]), Text: name}
}

func TestScreens(t *testing.T) {
	for name, got := range map[string]string{
		"idle":           drawn(idle(t), 80, 25),
		"busy":           drawn(busy(t), 80, 25),
		"busy-wide":      drawn(busy(t), 132, 43),
		"busy-narrow":    drawn(busy(t), 40, 60),
		"busy-more":      drawn(busy(t), 80, 25, "pgdown"),
		"hostile":        drawn(hostile(t), 80, 40),
		"away":           drawn(away(t), 80, 25),
		"away-ended":     drawn(ended(t), 80, 25),
		"no-network":     drawn(Status{Name: "mover1", Version: "v0.9.0", Links: []Link{}}, 80, 25),
		"code-hidden":    drawn(idle(t), 80, 25, "f3"),
		"power":          drawn(busy(t), 80, 25, "f10"),
		"power-refused":  drawn(busy(t), 80, 25, "p", "p", "y"),
		"network":        drawn(idle(t), 80, 25, "f2"),
		"network-typed":  drawn(idle(t), 80, 25, "n", "up", "up", "d", "e"),
		"network-wrong":  drawn(idle(t), 80, 25, "n", "down", "down", "backspace", "enter"),
		"network-apply":  drawn(busy(t), 80, 25, "n", "enter"),
		"shell-refused":  drawn(idle(t), 80, 25, "f12"),
		"lines":          lines(busy(t), true),
		"lines-in-a-log": lines(idle(t), false),
	} {
		got += "\n"
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: go test -update writes it anew:\n%s", name, diff)
		}
	}
}

// Whatever the size, the screen is as large as the terminal, and is drawn.
func TestEverySizeIsDrawn(t *testing.T) {
	for _, s := range []Status{{}, idle(t), busy(t), hostile(t), away(t)} {
		for _, width := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 19, 20, 39, 40, 79, 80, 132} {
			for _, height := range []int{0, 1, 2, 3, 4, 5, 6, 12, 24, 25, 43} {
				for _, keys := range [][]string{nil, {"f10"}, {"n"}, {"f12"}} {
					sized(t, drawn(s, width, height, keys...), width, height)
				}
			}
		}
	}
}

func sized(t *testing.T, text string, width, height int) {
	t.Helper()
	all := strings.Split(text, "\n")
	if len(all) > max(height, 1) || height >= 3 && width >= 1 && len(all) != height {
		t.Fatalf("%d lines on a screen of %dx%d:\n%s", len(all), width, height, text)
	}
	for _, l := range all {
		if len(l) > width {
			t.Fatalf("a line has %d columns on a screen of %dx%d: %q", len(l), width, height, l)
		}
	}
}

// Nothing but ASCII is drawn, and no command of a terminal's but the styles'.
func TestHostileNamesAreSpelledOut(t *testing.T) {
	s := hostile(t)
	for _, text := range []string{drawn(s, 80, 60), drawn(s, 300, 60), lines(s, true)} {
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r >= 0x7f) }); i >= 0 {
			t.Errorf("it holds %q:\n%q", text[i:i+1], text)
		}
	}
	if text := drawn(s, 300, 60); !strings.Contains(text, `a\x1b[2J\x1b]0;title\x07b\nc\u202ed\x9b31m`) || !strings.Contains(text, "bucher-??") {
		t.Errorf("the names are not told:\n%s", text)
	}
}

func prefix(t *testing.T, text string) (p netip.Prefix) {
	t.Helper()
	if err := p.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return p
}
