// Package hooks runs what an operator wants done before and after the stages of a
// migration: a program of one folder, or a request to an address of the settings.
//
// Both are named, never given: who may ask for migrations cannot make the appliance
// run or reach what its administrator did not put there. A program has no more rights
// than the user that the settings name, and nobody's unless they do.
package hooks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/webhook"
	"hyper2kvm/pipeline/proc"
)

// ErrHook is a hook that cannot be used as it is asked for.
var ErrHook = errors.New("cannot use the hook")

// How long a hook may take.
const (
	UsualTimeout   = 5 * time.Minute
	LongestTimeout = 24 * time.Hour
)

// keep is how much of what a hook says is kept, bytes.
const keep = 16 << 10

// Hook is what is asked for.
type Hook struct {
	Program   string        // its name in the folder, or
	Webhook   string        // its name in the settings
	Timeout   time.Duration // UsualTimeout if zero
	OnFailure string        // Stop, which is the default, or Continue
}

// What becomes of a migration whose hook fails.
const (
	Stop     = "stop"
	Continue = "continue"
)

// Document is what a hook is told, as JSON.
type Document struct {
	Migration model.ID        `json:"migration"`
	Name      string          `json:"name"`
	When      string          `json:"when"`  // before or after
	Stage     model.StageName `json:"stage"` // which stage
	Folder    string          `json:"folder"`
	State     model.State     `json:"state"`
	Verdict   model.Verdict   `json:"verdict,omitempty"`
}

// Outcome is how a hook ended.
type Outcome string

const (
	OK       Outcome = "ok"
	Failed   Outcome = "failed"
	TimedOut Outcome = "timed out"
)

// Result is what became of a hook.
type Result struct {
	Hook    string        `json:"hook"` // its name
	Outcome Outcome       `json:"outcome"`
	Words   string        `json:"words,omitempty"`  // why it is not ok
	Output  string        `json:"output,omitempty"` // the last, or of a webhook the first, 16 KiB of what it said
	Stops   bool          `json:"stops"`            // the migration must not go on
	Took    time.Duration `json:"took"`
}

// Runner runs hooks.
type Runner struct {
	Folder   string                                    // of the programs
	User     string                                    // whom programs run as, a name or a number; see account
	Webhooks func(name string) (webhook.Target, error) // of the settings; an error says what to do
}

// errTimeout is a hook that took too long.
var errTimeout = errors.New("its time is over")

// Check is ErrHook for one that cannot be run as it is asked for, here and now.
func (r Runner) Check(h Hook) error {
	var err error
	switch {
	case (h.Program == "") == (h.Webhook == ""):
		err = errors.New("name one of program and webhook")
	case h.Timeout < 0 || h.Timeout > LongestTimeout:
		err = fmt.Errorf("a timeout of %v: write up to %v", h.Timeout, LongestTimeout)
	case h.OnFailure != "" && h.OnFailure != Stop && h.OnFailure != Continue:
		err = fmt.Errorf("on failure %q: write %s or %s", h.OnFailure, Stop, Continue)
	case h.Program != "":
		if _, err = r.program(h.Program); err == nil {
			_, err = account(r.User, os.Geteuid())
		}
	default:
		_, err = r.Webhooks(h.Webhook)
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrHook, h.name(), err)
	}
	return nil
}

func (h Hook) name() string { return h.Program + h.Webhook }

// Run runs a hook to its end. The error is the cause of a ctx that ended first; all
// else that can go wrong is in the result.
func (r Runner) Run(ctx context.Context, h Hook, d Document) (Result, error) {
	result := Result{Hook: h.name(), Outcome: OK}
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, h.timeout(), errTimeout)
	defer cancel()
	said, err := r.run(bounded, h, d)
	if ctx.Err() != nil && err != nil {
		return result, context.Cause(ctx)
	}
	result.Took, result.Output = time.Since(began), strings.ToValidUTF8(string(said), "\ufffd")
	switch {
	case errors.Is(err, errTimeout):
		result.Outcome, result.Words = TimedOut, fmt.Sprintf("it did not end within %v", h.timeout())
	case err != nil:
		result.Outcome, result.Words = Failed, err.Error()
	}
	result.Stops = err != nil && h.OnFailure != Continue
	return result, nil
}

func (h Hook) timeout() time.Duration {
	if h.Timeout <= 0 {
		return UsualTimeout
	}
	return min(h.Timeout, LongestTimeout)
}

func (r Runner) run(ctx context.Context, h Hook, d Document) ([]byte, error) {
	if err := r.Check(h); err != nil {
		return nil, err
	}
	document, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if h.Webhook == "" {
		return r.runProgram(ctx, h.Program, append(document, '\n'))
	}
	target, err := r.Webhooks(h.Webhook)
	if err != nil {
		return nil, err
	}
	return target.Post(ctx, fmt.Sprintf("%s.%s-%s.%s", d.Migration, d.When, d.Stage, h.Webhook), document)
}

// environment is all that a program finds: nothing of the agent's own.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"}

func (r Runner) runProgram(ctx context.Context, name string, stdin []byte) ([]byte, error) {
	path, err := r.program(name)
	if err != nil {
		return nil, err
	}
	as, err := account(r.User, os.Geteuid())
	if err != nil {
		return nil, err
	}
	said, err := proc.Foreign{Path: path, Env: environment, Dir: "/", Stdin: stdin, Keep: keep, User: as}.Run(ctx)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: it runs as %s, who has to be let read and run it, through all folders on the way", err, cmp.Or(r.User, nobody))
	}
	return said, err
}
