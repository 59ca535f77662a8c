package dashboard

import (
	"context"
	"fmt"
	"slices"

	tea "charm.land/bubbletea/v2"
)

// Form is what people say of the network, and of the keyboard that they say it with.
type Form struct {
	Card     string // a name, or a MAC address; "": any
	Static   bool   // and not by DHCP
	Address  string // with prefix lengths
	Gateway  string
	DNS      string
	Keymap   string // "": the usual one
	Hostname string
}

// Network is how the network is set up.
type Network struct {
	Now   func() Form      // what was kept last
	Check func(Form) error // a sentence on what is wrong
	Keep  func(context.Context, Form) error
}

// field is one line of the form. What it holds is typed, or turned with the arrows.
type field struct {
	label string
	text  func(*Form) *string
	turn  func(d *formDialog, by int)
	shows func(Form) string
	only  bool // static addresses have it
}

// fields are those of the form, in their order.
var fields = []field{
	{label: "Network card", turn: turnCard, shows: func(f Form) string {
		if f.Card == "" {
			return "< any >"
		}
		return "< " + f.Card + " >"
	}},
	{label: "Addresses", turn: func(d *formDialog, _ int) { d.form.Static = !d.form.Static }, shows: func(f Form) string {
		if f.Static {
			return "< static >"
		}
		return "< by DHCP >"
	}},
	{label: "Address/prefix", text: func(f *Form) *string { return &f.Address }, only: true},
	{label: "Gateway", text: func(f *Form) *string { return &f.Gateway }, only: true},
	{label: "DNS servers", text: func(f *Form) *string { return &f.DNS }},
	{label: "Keyboard layout", text: func(f *Form) *string { return &f.Keymap }},
	{label: "Host name", text: func(f *Form) *string { return &f.Hostname }},
}

// formDialog asks for the network's settings, and whether they are to be applied.
type formDialog struct {
	form   Form
	cards  []string
	at     int // the field that takes keys
	asking bool
}

func newForm(f Form, links []Link) *formDialog {
	d := &formDialog{form: f, cards: []string{""}}
	for _, l := range links {
		d.cards = append(d.cards, l.Name)
	}
	if !slices.Contains(d.cards, f.Card) {
		d.cards = append(d.cards, f.Card)
	}
	return d
}

func turnCard(d *formDialog, by int) {
	i := slices.Index(d.cards, d.form.Card)
	d.form.Card = d.cards[(i+by+len(d.cards))%len(d.cards)]
}

func (d *formDialog) lines(s *Screen, width int) []line {
	p := &page{width: width}
	p.head("Network settings")
	for i, f := range fields {
		if f.only && !d.form.Static {
			continue
		}
		value, how := "", normal
		if f.shows != nil {
			value = f.shows(d.form)
		} else {
			value = *f.text(&d.form)
		}
		if i == d.at && !d.asking {
			how = bars
			if f.text != nil {
				value += "_"
			}
		}
		const label = 16
		p.row(how, fmt.Sprintf("%-*s%s", label, f.label, tail(plain(value), width-label-2*indent)))
	}
	p.lines = append(p.lines, line{})
	d.advice(p, s)
	return p.lines
}

// tail is the end of a text that is too long to be shown whole.
func tail(text string, width int) string {
	return text[max(len(text)-max(width, 1), 0):]
}

func (d *formDialog) advice(p *page, s *Screen) {
	if !d.asking {
		p.say(normal, indent, "Up and Down choose a line, Left and Right what there is to choose from. Enter goes on.")
		return
	}
	if s.status.Jobs.here() > 0 {
		p.say(bad, indent, "Migrations run, and may lose what they read from or write to over the network. They can be gone on with.")
	}
	p.say(warn, indent, "This is kept, and applied now. Who is connected to an address that goes away has to connect anew. Press Y to apply it.")
}

func (d *formDialog) key(s *Screen, k tea.Key) tea.Cmd {
	if d.asking {
		return d.answer(s, k.String())
	}
	switch name := k.String(); name {
	case "esc":
		s.dialog = nil
	case "up", "shift+tab":
		d.move(-1)
	case "down", "tab":
		d.move(1)
	case "enter":
		err := s.options.Network.Check(d.form)
		s.tell("", err)
		d.asking = err == nil
	default:
		d.edit(k)
	}
	return nil
}

// move goes to another field that is shown.
func (d *formDialog) move(by int) {
	for {
		d.at = (d.at + by + len(fields)) % len(fields)
		if d.form.Static || !fields[d.at].only {
			return
		}
	}
}

// mostTyped is longer than anything that is meant, bytes.
const mostTyped = 400

// edit changes the field that takes keys.
func (d *formDialog) edit(k tea.Key) {
	f, name := fields[d.at], k.String()
	switch {
	case f.turn != nil && name == "left":
		f.turn(d, -1)
	case f.turn != nil && (name == "right" || name == "space"):
		f.turn(d, 1)
	case f.turn != nil:
	case name == "backspace" || name == "ctrl+h":
		text := f.text(&d.form)
		*text = (*text)[:max(len(*text)-1, 0)]
	case name == "ctrl+u":
		*f.text(&d.form) = ""
	default:
		if text := f.text(&d.form); len(k.Text) == 1 && k.Text >= " " && k.Text < "\x7f" && len(*text) < mostTyped {
			*text += k.Text
		}
	}
}

// answer is to whether the form is to be applied.
func (d *formDialog) answer(s *Screen, name string) tea.Cmd {
	switch name {
	case "esc", "n":
		d.asking = false
	case "y":
		s.dialog = nil
		s.tell("The network is being set up.", nil)
		form := d.form
		return func() tea.Msg {
			err := s.options.Network.Keep(s.ctx, form)
			s.watcher.refresh()
			return noteMsg{"The network is set up as you said.", err}
		}
	}
	return nil
}
