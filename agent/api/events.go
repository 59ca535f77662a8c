package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/engine"
)

// Of streams of events: how often something is sent where nothing happens, and how
// often it is asked whether who follows them still may.
const (
	ping    = 15 * time.Second
	recheck = 10 * time.Second
)

// followEvents implements followEvents.
func (s *server) followEvents(c echo.Context) error {
	after, err := begins(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Request().Context())
	defer cancel()
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	w := &stream{w: c.Response(), control: http.NewResponseController(c.Response())}
	c.Response().WriteHeader(http.StatusOK)
	if err := w.send(": follows\n\n"); err != nil {
		return nil // who asked is gone
	}
	events := make(chan engine.Numbered)
	ended := make(chan error, 1)
	go func() { ended <- s.pull(ctx, c.QueryParam("migration"), after, events) }()
	s.stream(ctx, w, events, ended)
	return nil
}

// pull hands on events until ctx ends.
func (s *server) pull(ctx context.Context, migration string, after int64, events chan<- engine.Numbered) error {
	for e, err := range s.Engine.Follow(ctx, migration, after) {
		if err != nil {
			return err
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// stream sends events until the client is gone or does not receive them, the store is,
// or the client's access has ended. It can come back and go on where it was.
func (s *server) stream(ctx context.Context, w *stream, events <-chan engine.Numbered, ended <-chan error) {
	quiet, access := time.NewTicker(ping), time.NewTicker(recheck)
	defer quiet.Stop()
	defer access.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case err = <-ended:
			if err != nil {
				s.Log.Warn("a stream of events has ended", "err", err)
			}
			return
		case e := <-events:
			err = w.send(fmt.Sprintf("id: %d\nevent: migration\ndata: %s\n\n", e.Number, e.JSON))
			quiet.Reset(ping)
		case <-quiet.C:
			err = w.send(": nothing new\n\n")
		case <-access.C:
			err = s.Gate.Recheck(ctx, principal(ctx))
		}
		if err != nil {
			return
		}
	}
}

// stream is an answer without an end.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) send(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

// begins is the number of the event after which a stream begins.
func begins(c echo.Context) (int64, error) {
	for _, text := range []string{c.Request().Header.Get("Last-Event-ID"), c.QueryParam("from")} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return 0, echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("%q is no number of an event", text))
		}
		return n, nil
	}
	return engine.Now, nil
}
