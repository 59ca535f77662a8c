package dashboard

import (
	"context"
	"fmt"

	tea "charm.land/bubbletea/v2"

	"hyper2kvm/pipeline/proc"
)

// Verb is what becomes of this machine.
type Verb string

// The verbs, by systemctl's words.
const (
	PowerOff Verb = "poweroff"
	Restart  Verb = "reboot"
)

// words are what people call it.
func (v Verb) words() string {
	if v == PowerOff {
		return "power off"
	}
	return "restart"
}

// Power has systemd power this machine off or restart it. It returns before that is done.
// Source: systemctl(1): poweroff and reboot stop all units first.
func Power(ctx context.Context, v Verb) error {
	_, err := proc.Run(ctx, "systemctl", string(v))
	return err
}

// powerDialog asks what to do, whether that is meant, and once more while migrations run.
type powerDialog struct {
	verb   Verb // "": not chosen yet
	warned bool
}

func (d *powerDialog) lines(s *Screen, width int) []line {
	p := &page{width: width}
	p.head("Power")
	switch {
	case d.verb == "":
		p.say(normal, indent, "P  power off")
		p.say(normal, indent, "R  restart")
	case d.warned:
		p.say(bad, indent, s.runs())
		p.say(normal, indent, "Press Y once more to "+d.verb.words()+" all the same.")
	default:
		p.say(normal, indent, "Press Y to "+d.verb.words()+" this machine.")
	}
	return p.lines
}

// runs is what speaks against stopping the agent now; "" if nothing does.
func (s *Screen) runs() string {
	const effect = "What they have copied is kept, and they go on when this machine runs again."
	switch n := s.status.Jobs.here(); {
	case !s.status.Agent.Answers:
		return "The agent does not answer, so whether migrations run is not known. " + effect
	case n == 1:
		return "Not now: a migration runs. " + effect
	case n > 1:
		return fmt.Sprintf("Not now: %d migrations run. %s", n, effect)
	}
	return ""
}

func (d *powerDialog) key(s *Screen, k tea.Key) tea.Cmd {
	switch name := k.String(); {
	case name == "esc":
		s.dialog = nil
	case d.verb == "" && name == "p":
		d.verb = PowerOff
	case d.verb == "" && name == "r":
		d.verb = Restart
	case d.verb != "" && name == "y" && !d.warned && s.runs() != "":
		d.warned = true
	case d.verb != "" && name == "y":
		s.dialog = nil
		return func() tea.Msg {
			return noteMsg{"This machine is told to " + d.verb.words() + ".", s.options.Power(s.ctx, d.verb)}
		}
	}
	return nil
}
