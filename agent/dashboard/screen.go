package dashboard

import (
	"context"
	"strings"

	tea "charm.land/bubbletea/v2"
)

// Screen shows a status on a terminal and takes keys. It implements tea.Model.
type Screen struct {
	ctx     context.Context // of the program, for what keys begin
	options Options
	watcher *Watcher
	status  Status
	width   int
	height  int
	top     int    // the first line of the body that is shown
	hidden  bool   // the code
	note    string // what came of the last key
	failed  bool   // it is bad news
	dialog  dialog // nil: there is none
}

// dialog is asked instead of what is shown otherwise. A key may end it.
type dialog interface {
	lines(s *Screen, width int) []line
	key(s *Screen, k tea.Key) tea.Cmd
}

type (
	// statusMsg is a new status.
	statusMsg Status
	// noteMsg is what came of a key.
	noteMsg struct {
		note string
		err  error
	}
)

func newScreen(ctx context.Context, o Options, w *Watcher) *Screen {
	return &Screen{ctx: ctx, options: o, watcher: w, width: 80, height: 25, status: Status{Version: o.Version}}
}

// Init implements tea.Model.
func (s *Screen) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (s *Screen) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch m := message.(type) {
	case statusMsg:
		s.status = Status(m)
	case noteMsg:
		s.tell(m.note, m.err)
	case tea.WindowSizeMsg:
		s.width, s.height = m.Width, m.Height
	case tea.KeyPressMsg:
		return s, s.key(m.Key())
	}
	return s, nil
}

func (s *Screen) tell(note string, err error) {
	s.note, s.failed = note, err != nil
	if err != nil {
		s.note = err.Error()
	}
}

// key does what a key is for.
func (s *Screen) key(k tea.Key) tea.Cmd {
	name := k.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+l": // others, such as the kernel, write on a console too
		return tea.ClearScreen
	}
	s.tell("", nil)
	if s.dialog != nil {
		return s.dialog.key(s, k)
	}
	return s.choose(name)
}

// choose begins what a key stands for while no dialog is shown.
func (s *Screen) choose(name string) tea.Cmd {
	switch name {
	case "f2", "n":
		s.dialog = newForm(s.options.Network.Now(), s.status.Links)
	case "f3", "c":
		return s.toggleCode()
	case "f10", "p":
		s.dialog = &powerDialog{}
	case "f12", "s":
		return s.shell()
	case "up":
		s.top--
	case "down":
		s.top++
	case "pgup":
		s.top -= s.room()
	case "pgdown":
		s.top += s.room()
	}
	return nil
}

// toggleCode shows or hides the code. One that was made elsewhere is not known, so
// another one is made.
func (s *Screen) toggleCode() tea.Cmd {
	switch s.status.Code.State {
	case CodeNone:
		s.tell("Somebody has or had access already, so there is no code: ask an admin.", nil)
	case CodeMade:
		s.hidden = !s.hidden
	default:
		s.hidden = false
		return func() tea.Msg { return noteMsg{err: s.watcher.NewCode(s.ctx)} }
	}
	return nil
}

func (s *Screen) shell() tea.Cmd {
	if !s.status.Shell {
		s.tell("There is no shell here: set screen.shell in the agent's settings, and restart the agent, to have one without a log-in.", nil)
		return nil
	}
	return tea.Exec(s.options.Shell(), func(err error) tea.Msg { return noteMsg{"The shell has ended.", err} })
}

// View implements tea.Model.
func (s *Screen) View() tea.View {
	v := tea.NewView(s.draw())
	v.AltScreen = true
	v.DisableBracketedPasteMode = true
	return v
}

// room is how many lines there are between the top and the bottom.
func (s *Screen) room() int { return max(s.height-2, 1) }

// draw is the whole screen.
func (s *Screen) draw() string {
	if s.height < 3 || s.width < 1 {
		return fit(title(s.status), s.width)
	}
	drawn := []string{filled(title(s.status), s.width)}
	for _, l := range s.middle() {
		drawn = append(drawn, line{fit(l.text, s.width), l.style}.paint())
	}
	return strings.Join(append(drawn, filled(s.bottom(), s.width)), "\n")
}

func filled(text string, width int) string {
	text = fit(" "+text, width)
	return line{text + strings.Repeat(" ", width-len(text)), bars}.paint()
}

// middle is what stands between: as many lines as there is room for.
func (s *Screen) middle() []line {
	var all []line
	if s.dialog != nil {
		all = s.dialog.lines(s, s.width)
	} else {
		all = body(s.status, s.width, !s.hidden)
	}
	notes := s.notes()
	room := max(s.room()-len(notes), 0)
	s.top = max(min(s.top, len(all)-room), 0)
	if s.dialog != nil {
		s.top = 0
	}
	shown := all[s.top:min(len(all), s.top+room)]
	for len(shown) < room {
		shown = append(shown[:len(shown):len(shown)], line{})
	}
	return append(shown[:len(shown):len(shown)], notes...)[:s.room()]
}

// notes are what came of the last key.
func (s *Screen) notes() []line {
	if s.note == "" {
		return nil
	}
	p, how := &page{width: s.width}, warn
	if s.failed {
		how = bad
	}
	p.say(how, 0, s.note)
	return p.lines
}

// bottom names the keys that do something.
func (s *Screen) bottom() string {
	if s.dialog != nil {
		return "Esc back"
	}
	text := "F2 network  F3 code  F10 power"
	if s.status.Shell {
		text += "  F12 shell"
	}
	if len(body(s.status, s.width, !s.hidden)) > s.room() {
		text += "  Up/Down more"
	}
	return text
}
