package watch

import (
	"context"
	"strings"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
)

// finish takes the last look and writes the evidence down.
func (r *run) finish(ctx context.Context) error {
	now := time.Now()
	r.session.Took = now.Sub(r.session.Started)
	if r.session.End != testers.Died {
		if err := r.lookAround(ctx, now); err != nil && r.orDied(err) != nil {
			return err
		}
	}
	r.witness()
	r.readSerial(now)
	if r.port != nil {
		r.session.Forged = r.port.Forged()
	}
	r.session.LostEvents, r.session.SerialBytes = r.machine.Lost(), r.serial.written()
	r.session.Screens = r.evidence.screens
	r.session.LastWords = lastWords(r.journal(), testers.Plain(r.serial.last()), r.watch.text)
	var network [][]lan.Witness
	for _, b := range r.session.Boots {
		network = append(network, b.Network)
	}
	if err := r.evidence.json("lan.json", network); err != nil {
		return err
	}
	if r.watch.text != "" {
		if err := r.evidence.text("screen.txt", r.watch.text+"\n"); err != nil {
			return err
		}
	}
	if err := r.evidence.json("session.json", r.session); err != nil {
		return err
	}
	r.say("%s after %.0f s: %s", r.session.End, r.session.Took.Seconds(), r.session.Detail)
	return nil
}

// journal is what the probe sent of the guest's journal, in an emergency.
func (r *run) journal() string {
	last, _ := r.boot().Last()
	return strings.Join(last.Journal, "\n")
}

// lastWords are the last lines of each of the texts that there are.
func lastWords(texts ...string) string {
	var words []string
	for _, s := range texts {
		if s = strings.TrimSpace(s); s != "" {
			lines := strings.Split(s, "\n")
			words = append(words, strings.Join(lines[max(0, len(lines)-25):], "\n"))
		}
	}
	return strings.Join(words, "\n---\n")
}
