package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// qemu answers like QEMU: script gets every command after the negotiation and
// returns the lines to send; "" hangs up. %d in a line stands for the ID.
func qemu(t *testing.T, script func(command string) []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmp")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, greeting)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var asked struct {
				Execute string
				ID      uint64
			}
			if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
				t.Errorf("%s is not JSON", lines.Bytes())
				return
			}
			answers := []string{`{"return": {}, "id": %d}`}
			if asked.Execute != "qmp_capabilities" {
				answers = script(asked.Execute)
			}
			for _, line := range answers {
				if line == "" {
					return
				}
				fmt.Fprintln(conn, strings.ReplaceAll(line, "%d", fmt.Sprint(asked.ID)))
			}
		}
	}()
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestACommandReturnsItsResult(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string {
		return []string{`{"return": {"status": "running"}, "id": %d}`}
	}))
	var got struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &got); err != nil || got.Status != "running" {
		t.Errorf("Execute = %+v, %v, want running", got, err)
	}
}

func TestARefusalIsAnErrorOfItsOwn(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string {
		return []string{`{"id": %d, "error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}`}
	}))
	err := c.Execute(t.Context(), "x", nil, nil)
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Class != "CommandNotFound" {
		t.Errorf("Execute = %v, want CommandNotFound", err)
	}
}

func TestAnEventBeforeAnAnswerKeepsItsTime(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string {
		return []string{
			`{"event": "RESET", "data": {"guest": true}, "timestamp": {"seconds": 1700000000, "microseconds": 250000}}`,
			`{"return": {}, "id": %d}`,
		}
	}))
	if err := c.Execute(t.Context(), "system_reset", nil, nil); err != nil {
		t.Fatal(err)
	}
	got := <-c.Events()
	if got.Name != "RESET" || string(got.Data) != `{"guest": true}` || got.At.UnixMicro() != 1700000000250000 {
		t.Errorf("event = %+v", got)
	}
}

func TestADisconnectFailsPendingCallsAndEndsEvents(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string { return []string{""} }))
	for range 2 { // the second is refused at once
		if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Execute = %v, want %v", err, ErrClosed)
		}
	}
	if _, open := <-c.Events(); open {
		t.Error("events go on after the connection ended")
	}
}

func TestAMessageOverTheLimitEndsTheConnection(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string {
		return []string{`{"return": "` + strings.Repeat("x", maxLine) + `", "id": %d}`}
	}))
	err := c.Execute(t.Context(), "query-all", nil, nil)
	if !errors.Is(err, ErrClosed) || !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("Execute = %v, want %v and %v", err, ErrClosed, bufio.ErrTooLong)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	c := dial(t, qemu(t, func(string) []string { return nil }))
	impatient := errors.New("impatient")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, impatient)
	defer cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, impatient) {
		t.Errorf("Execute = %v, want %v", err, impatient)
	}
}

func TestALateAnswerIsNotTakenForAnother(t *testing.T) {
	calls := 0
	c := dial(t, qemu(t, func(string) []string {
		if calls++; calls == 1 {
			return nil
		}
		return []string{`{"return": "first", "id": 2}`, `{"return": "second", "id": %d}`} // 1 was qmp_capabilities
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Execute(ctx, "slow", nil, nil); err == nil {
		t.Fatal("an unanswered call succeeded")
	}
	var got string
	if err := c.Execute(t.Context(), "quick", nil, &got); err != nil || got != "second" {
		t.Errorf("Execute = %q, %v, want second", got, err)
	}
}

func TestEventsThatNobodyReadsAreCounted(t *testing.T) {
	event := `{"event": "X", "timestamp": {"seconds": 1, "microseconds": 0}}`
	flood := strings.Split(strings.Repeat(event+"\n", maxWaiting+7)+`{"return": {}, "id": %d}`, "\n")
	c := dial(t, qemu(t, func(string) []string { return flood }))
	if err := c.Execute(t.Context(), "flood", nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.Lost(); got != 7 {
		t.Errorf("Lost = %d, want 7", got)
	}
}

func TestAServerThatSaysNothingIsGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmp")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial = %v, want %v", err, context.DeadlineExceeded)
	}
}
