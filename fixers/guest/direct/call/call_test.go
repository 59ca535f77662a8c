package call

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

var errOwn = errors.New("an error of the package's own")

var quiet = slog.New(slog.DiscardHandler)

// pair are the two ends of a socket.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = Socket(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// serve answers with s until the caller hangs up.
func serve(t *testing.T, s *Server, log *slog.Logger) *Caller {
	t.Helper()
	ours, theirs := pair(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), theirs) }()
	c := NewCaller(ours, log, errOwn)
	t.Cleanup(func() {
		c.Close()
		if err := <-done; err != nil {
			t.Error("Serve:", err)
		}
	})
	return c
}

func TestErrorsAreTheSameOnBothSides(t *testing.T) {
	all := map[string]error{
		"errno":   fmt.Errorf("write: %w", unix.ENOSPC),
		"path":    &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist},
		"enoent":  &fs.PathError{Op: "open", Path: "/x", Err: unix.ENOENT},
		"big":     fmt.Errorf("read: %w", guest.ErrTooBig),
		"own":     fmt.Errorf("%w: %w", errOwn, unix.EINVAL),
		"unknown": errors.New("unknown"),
	}
	targets := []error{unix.ENOSPC, unix.ENOENT, unix.EINVAL, fs.ErrNotExist, fs.ErrExist, guest.ErrTooBig, guest.ErrNotRegular, errOwn, errors.ErrUnsupported}
	s := NewServer(errOwn)
	Handle(s, "fail", func(_ context.Context, name string) (None, error) { return None{}, all[name] })
	c := serve(t, s, quiet)
	for name, want := range all {
		_, got := Do[None](t.Context(), c, "fail", name, time.Minute)
		if got == nil || got.Error() != want.Error() {
			t.Errorf("%s: error %v, want %v", name, got, want)
		}
		for _, target := range targets {
			if errors.Is(got, target) != errors.Is(want, target) {
				t.Errorf("%s: is %v: %v", name, target, errors.Is(got, target))
			}
		}
	}
}

func TestBytesOfNamesAreKept(t *testing.T) {
	s := NewServer()
	Handle(s, "echo", func(_ context.Context, name string) (string, error) { return name, nil })
	c := serve(t, s, quiet)
	for _, name := range []string{"", "plain", "\xff\xfe\x00\n", strings.Repeat("x", 1<<20)} {
		if got, err := Do[string](t.Context(), c, "echo", name, time.Minute); got != name || err != nil {
			t.Errorf("echo of %d bytes: %d bytes, %v", len(name), len(got), err)
		}
	}
}

func TestWhatIsLoggedComesWithTheAnswer(t *testing.T) {
	s := NewServer()
	Handle(s, "log", func(_ context.Context, fail bool) (None, error) {
		s.Log().With("device", "disk0p1").WithGroup("g").Warn("looks odd", "n", 7)
		if fail {
			return None{}, errOwn
		}
		return None{}, nil
	})
	var text bytes.Buffer
	c := serve(t, s, slog.New(slog.NewTextHandler(&text, nil)))
	for _, fail := range []bool{false, true} {
		text.Reset()
		if _, err := Do[None](t.Context(), c, "log", fail, time.Minute); (err != nil) != fail {
			t.Error(err)
		}
		if want := `level=WARN msg="looks odd" device=disk0p1 g.n=7`; !strings.Contains(text.String(), want) {
			t.Errorf("the log is %q, want %q in it", &text, want)
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	s := NewServer()
	begun := make(chan bool, 1)
	Handle(s, "wait", func(ctx context.Context, _ None) (None, error) {
		begun <- true
		<-ctx.Done()
		return None{}, ctx.Err()
	})
	Handle(s, "echo", func(_ context.Context, n int) (int, error) { return n, nil })
	c := serve(t, s, quiet)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("operator")
	go func() { <-begun; cancel(why) }()
	if _, err := Do[None](ctx, c, "wait", None{}, time.Hour); !errors.Is(err, why) {
		t.Errorf("error %v, want the cause", err)
	}
	if got, err := Do[int](t.Context(), c, "echo", 5, time.Minute); got != 5 || err != nil {
		t.Errorf("the next call: %d, %v", got, err)
	}
	if _, err := Do[int](ctx, c, "echo", 5, time.Minute); !errors.Is(err, why) {
		t.Errorf("a call with an ended context: %v", err)
	}
}

func TestNoAnswerIsTheEnd(t *testing.T) {
	for name, other := range map[string]func(net.Conn){
		"never":    func(net.Conn) {},
		"hangs up": func(c net.Conn) { c.Read(make([]byte, 1)); c.Close() },
		"garbage":  func(c net.Conn) { c.Read(make([]byte, 1)); c.Write([]byte("\x05hello, this is no answer")) },
		"too long": func(c net.Conn) {
			out := newWriter(c)
			c.Read(make([]byte, 1))
			out.send(reply{}, strings.Repeat("x", maxAnswer+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			go other(theirs)
			c := NewCaller(ours, quiet)
			if _, err := Do[string](t.Context(), c, "ask", None{}, time.Second); !errors.Is(err, ErrGone) {
				t.Errorf("error %v, want ErrGone", err)
			}
			if _, err := Do[string](t.Context(), c, "ask", None{}, time.Hour); !errors.Is(err, ErrGone) {
				t.Errorf("the next call: error %v, want ErrGone", err)
			}
		})
	}
}

func TestAServerInTurnAnswersAll(t *testing.T) {
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer()
	Handle(s, "add", func(_ context.Context, a [2]int) (int, error) { return a[0] + a[1], nil })
	done := make(chan error, 1)
	go func() { done <- s.ServeInTurn(context.Background(), file) }()
	c := NewCaller(ours, quiet)
	for i := range 1000 {
		if got, err := Do[int](t.Context(), c, "add", [2]int{i, 1}, time.Minute); got != i+1 || err != nil {
			t.Fatalf("add(%d, 1) = %d, %v", i, got, err)
		}
	}
	if err := errors.Join(c.Close(), <-done); err != nil {
		t.Error(err)
	}
}

func TestACallThatNobodyKnowsEndsTheServer(t *testing.T) {
	ours, theirs := pair(t)
	done := make(chan error, 1)
	go func() { done <- NewServer().Serve(context.Background(), theirs); theirs.Close() }()
	if _, err := Do[None](t.Context(), NewCaller(ours, quiet), "what", None{}, time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, want ErrGone", err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), `no call "what"`) {
		t.Errorf("Serve: %v", err)
	}
}
