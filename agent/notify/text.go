package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"hyper2kvm/agent/api/model"
)

// Subject is the message in one line, for people.
func (m Message) Subject() string { return line(m.Name + " " + m.happened()) }

// happened is what became of the migration, after its name.
func (m Message) happened() string {
	switch m.State {
	case model.StateDone:
		return done[m.Verdict]
	case model.StateFailed:
		return "failed"
	case model.StatePlanned:
		return "waits: its plan must be approved"
	case model.StatePaused:
		return "is paused"
	case model.StateCancelled:
		return "was cancelled"
	case model.StateRunning:
		return "is being migrated"
	case model.StateQueued:
		return "waits for its turn"
	}
	return "is " + string(m.State)
}

// done are the ends of migrations that went well.
var done = map[model.Verdict]string{
	"":                    "is done",
	model.VerdictProved:   "is migrated, and proved to boot",
	model.VerdictUntested: "is migrated, and was not tested: nobody knows whether it boots",
	model.VerdictRead:     "was looked at, as it was asked for",
	model.VerdictUndone:   "is as it was: its changes were taken back",
}

// Text is the message for people, of some lines.
func (m Message) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", m.Subject())
	for _, field := range []struct{ name, value string }{
		{"What happened", m.Detail},
		{"What to try", m.Try},
		{"Migration", m.Migration},
		{"Appliance", m.Appliance},
		{"Time", m.Time.UTC().Format(time.RFC3339)},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, "%s: %s\n", field.name, line(field.value))
		}
	}
	return b.String()
}

// line is a text on one line: a guest, who may have a say in its name, writes no lines
// of ours.
func line(text string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	return strings.Join(strings.Fields(printable), " ")
}
