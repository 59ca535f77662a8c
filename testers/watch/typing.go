package watch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hyper2kvm/testers"
	"hyper2kvm/testers/screen"
)

const (
	// maxTries is how often one passphrase is typed in one boot; most initrds ask
	// three times.
	maxTries = 2
	// maxTrials is how often a prompt is asked whether it hides what is typed: a
	// message of the kernel's may come meanwhile, and systemd takes back its "(press
	// TAB for no echo)" at the first key.
	maxTrials = 5
	// settle is how long a console may take to show what was typed.
	settle = time.Second
	// maxHeard bounds what is kept of a serial console's text, in bytes.
	maxHeard = 16 << 10
)

// asking is what a boot remembers of the prompts on one console.
type asking struct {
	text     string         // of the console at the last look
	prompt   string         // that stood there
	asked    int            // prompts in the console's text
	answered int            // of them
	trials   int            // of whether the prompt hides what is typed
	tries    map[string]int // that a passphrase was typed, by the first name of its device
}

// typing is what a boot remembers of passphrases.
type typing struct {
	heard string // on the serial console, the end of it
	fresh string // what nobody has looked at
	on    map[string]*asking
}

// answer types a passphrase where a prompt for it stands in the text of a console, and
// stood there at the look before: nobody else writes there then.
func (r *run) answer(ctx context.Context, c console, text string, now time.Time) error {
	if len(r.spec.Passphrases) == 0 || r.session.End != "" {
		return nil
	}
	is := r.watch.typing.of(c)
	if _, failed := testers.Fatal(r.boot().Signs); !is.stands(text, c.inOrder()) || failed {
		return nil
	}
	p, why := r.passphrase(is)
	if why != "" {
		r.note(c.name(), is.prompt, why, true, now)
		return nil
	}
	hidden, err := hides(ctx, c)
	switch {
	case err != nil:
		return err
	case hidden:
		return r.give(ctx, c, p, now)
	}
	if is.trials++; is.trials == maxTrials {
		r.note(c.name(), is.prompt, "the passphrase is not typed: what is typed there can be read", true, now)
	}
	return nil
}

// passphrase is the one for a prompt, or why none is typed there.
func (r *run) passphrase(is *asking) (p Passphrase, why string) {
	p, why = chosen(r.spec.Passphrases, is.prompt)
	switch {
	case why != "":
		return p, "the passphrase is not typed: " + why
	case is.tries[p.names[0]] == maxTries:
		return p, fmt.Sprintf("the passphrase was typed %d times and did not open the device: where a screen asks, the layout of a US keyboard is assumed", maxTries)
	}
	return p, ""
}

// of is what is remembered of a console.
func (t *typing) of(c console) *asking {
	if t.on == nil {
		t.on = map[string]*asking{}
	}
	if t.on[c.name()] == nil {
		t.on[c.name()] = &asking{tries: map[string]int{}}
	}
	return t.on[c.name()]
}

// stands tells whether a prompt stands in the text of a console as it did before: it is
// the last there or, where the text is in no order, all of the text is as it was.
func (a *asking) stands(text string, inOrder bool) bool {
	was, still := a.prompt, a.text == text
	prompt, asked, last := testers.Prompt(text)
	a.text, a.asked, a.answered = text, asked, min(a.answered, asked)
	if a.prompt = ""; asked > a.answered && (last || !inOrder) {
		a.prompt = prompt
	}
	return a.prompt != "" && a.prompt == was && (still || inOrder)
}

// give types a passphrase at the prompt that stands on a console.
func (r *run) give(ctx context.Context, c console, p Passphrase, now time.Time) error {
	is := r.watch.typing.of(c)
	for _, key := range p.secret {
		if err := c.press(ctx, key); err != nil {
			return err
		}
	}
	if err := c.press(ctx, screen.Enter); err != nil {
		return err
	}
	is.tries[p.names[0]]++
	is.trials, is.answered = 0, is.asked
	r.watch.alive = now
	r.note(c.name(), is.prompt, "the passphrase was typed", false, now)
	is.prompt = ""
	return nil
}

// hides tells whether a console hides what is typed: it shows two letters alike. A shell,
// or whatever else reads keys, shows them.
func hides(ctx context.Context, c console) (bool, error) {
	first, err := try(ctx, c, 'a')
	if err != nil {
		return false, err
	}
	second, err := try(ctx, c, 'm')
	return first == second, err
}

// try types a letter and takes it back. It returns what was shown between.
func try(ctx context.Context, c console, letter byte) (string, error) {
	if _, err := c.shows(ctx); err != nil {
		return "", err
	}
	if err := c.press(ctx, letter); err != nil {
		return "", err
	}
	if err := pause(ctx, settle); err != nil {
		return "", err
	}
	shown, err := c.shows(ctx)
	if err != nil {
		return "", err
	}
	if err := c.press(ctx, screen.Backspace); err != nil {
		return "", err
	}
	return shown, pause(ctx, settle)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// note says what was done about the prompt on a console.
func (r *run) note(where, prompt, what string, fatal bool, now time.Time) {
	b := r.boot()
	i := slices.IndexFunc(b.Signs, func(s testers.Sign) bool { return s.Name == testers.PassphrasePrompt && s.Where == where })
	if i < 0 {
		b.Signs = append(b.Signs, testers.Sign{Name: testers.PassphrasePrompt, Where: where})
		i = len(b.Signs) - 1
	}
	s := &b.Signs[i]
	if s.Fatal {
		return // its time is when the boot came to its end
	}
	s.Line, s.Note, s.Fatal, s.At = prompt, what, fatal, now
	r.say("boot %d: %v", len(r.session.Boots), *s)
}

// unanswered ends a boot whose prompt was seen, and never stood for its answer: other
// text came after it.
func (r *run) unanswered(now time.Time) {
	b := r.boot()
	for i, s := range b.Signs {
		if s.Name != testers.PassphrasePrompt || s.Note != "" || s.Fatal || now.Sub(s.At) < r.limits.settle {
			continue
		}
		if is := r.watch.typing.on[s.Where]; is != nil && is.prompt != "" {
			continue
		}
		typed := slices.ContainsFunc(b.Signs, func(s testers.Sign) bool { return s.Name == testers.PassphrasePrompt && s.Note != "" })
		if b.Signs[i].Note = "it was not the last that stood there"; !typed {
			b.Signs[i].Note += ", and the passphrase is not typed"
			b.Signs[i].Fatal, b.Signs[i].At = true, now
		}
	}
}

// hear keeps what a serial console said for prompts to be found in.
func (t *typing) hear(text string) {
	t.heard = string(lastBytes([]byte(t.heard+text), maxHeard))
	t.fresh = string(lastBytes([]byte(t.fresh+text), maxHeard))
}
