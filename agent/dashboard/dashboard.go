// Package dashboard is the appliance's own screen: what tty1 or a serial console shows
// instead of a login prompt. It tells where the appliance is reached and how it is known,
// how it is, what it does, and lets who stands before it set up its network and power it
// off. It asks the agent over its Unix socket and outlives it.
//
// Status: what there is to show. Watcher: keeps a status up to date. Screen: shows it on
// a terminal, and takes keys. Lines: shows it where nothing can be drawn.
//
// Only ASCII is drawn, in 16 colours or none: fonts of consoles have little more, and
// what a serial console makes of other bytes is not known. What comes from guests and
// servers is made printable first.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"golang.org/x/term"

	"hyper2kvm/agent/config"
)

// Options are what the dashboard stands on. All must be set but those that say so.
type Options struct {
	Socket   string                            // the agent's
	Version  string                            // of this program
	Settings func() (*config.Settings, error)  // the agent's
	Links    func() ([]Link, error)            // this machine's
	Root     string                            // the folder below which first boot's report is
	Power    func(context.Context, Verb) error // powers this machine off, or restarts it
	Shell    func() tea.ExecCommand            // a shell on this terminal
	Network  Network
	In, Out  *os.File
	Term     string // the terminal's type
}

// plainTerms are terminals on which nothing can be drawn.
var plainTerms = []string{"", "dumb", "unknown"}

// frames is how often the screen may change, a second. Every one of them costs a little
// even if nothing has changed.
const frames = 10

// Run shows the appliance until ctx ends or the terminal does.
func Run(ctx context.Context, o Options) error {
	if slices.Contains(plainTerms, o.Term) || !term.IsTerminal(int(o.Out.Fd())) || !term.IsTerminal(int(o.In.Fd())) {
		return runLines(ctx, o)
	}
	return runScreen(ctx, o)
}

func runScreen(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := newWatcher(o)
	keys := keyboard{o.In, func(err error) { cancel(fmt.Errorf("the terminal is gone: %w", err)) }}
	program := tea.NewProgram(newScreen(ctx, o, w), tea.WithContext(ctx), tea.WithInput(keys), tea.WithOutput(o.Out), tea.WithoutSignalHandler(),
		tea.WithFPS(frames), tea.WithColorProfile(colours(o.Term)), tea.WithEnvironment(environment(o.Term)))
	watching, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(watching, func(s Status) { program.Send(statusMsg(s)) })
	}()
	_, err := program.Run()
	stop()
	<-ended
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// colours are those that a terminal shows for sure.
func colours(terminal string) colorprofile.Profile {
	for _, monochrome := range []string{"vt", "ansi-m", "xterm-mono"} {
		if strings.HasPrefix(terminal, monochrome) {
			return colorprofile.ASCII
		}
	}
	return colorprofile.ANSI
}

// environment is what the library may know. It asks a terminal for what it can do only
// where one runs over SSH and is no local console, whose answers would be taken for keys.
func environment(terminal string) []string {
	return []string{"TERM=" + terminal, "SSH_TTY=console"}
}
