package dashboard

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

// settled is how long a change is waited after for others, so that they are printed
// together.
const settled = time.Second

// runLines prints the status whenever it changes, until ctx ends or nobody reads it.
func runLines(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := newWatcher(o)
	changed := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx, func(Status) { hint(changed) })
	}()
	if err := printChanges(ctx, o.Out, changed, w.status, term.IsTerminal(int(o.Out.Fd()))); err != nil {
		cancel(err)
	}
	<-ended
	return context.Cause(ctx)
}

// printChanges prints what a status has become after changes of it. The code stands in
// it only if it may: a file or a pipe may be a log.
func printChanges(ctx context.Context, out io.Writer, changed <-chan struct{}, status func() Status, secret bool) error {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		wait(ctx, settled, nil)
		text := lines(status(), secret)
		if text == last {
			continue
		}
		if _, err := io.WriteString(out, text+"\n"); err != nil {
			return err
		}
		last = text
	}
}

// lineWidth is that of lines where the terminal's is not known.
const lineWidth = 79

// lines is a status as text, for where nothing can be drawn.
func lines(s Status, secret bool) string {
	var b strings.Builder
	s = coarse(s)
	b.WriteString(title(s) + "\n")
	for _, l := range body(s, lineWidth, secret) {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

// title names the appliance.
func title(s Status) string {
	return join("   ", plain(s.Name), "hyper2kvm "+plain(s.Version))
}

// coarse is a status without what changes all the time: a line that was printed stays.
func coarse(s Status) Status {
	s.Jobs.Running = slices.Clone(s.Jobs.Running)
	for i := range s.Jobs.Running {
		j := &s.Jobs.Running[i]
		j.Done -= j.Done % max(j.Total/10, 1)
	}
	s.Disk.Free -= s.Disk.Free % max(s.Disk.Size/20, 1)
	return s
}
