package api

import (
	"context"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
)

// Updates are those of this appliance itself.
type Updates interface {
	// Read is which versions there are, how the update goes that is being installed, and
	// why the last one was not, if it was not.
	Read(ctx context.Context) (u model.Update, failed, err error)
	// Start begins an update, and returns before it is done.
	Start(ctx context.Context, r model.UpdateRequest) error
	// Put installs an update that comes.
	Put(ctx context.Context, from io.Reader, restart bool) error
}

// ReadUpdate implements readUpdate.
func (s *server) ReadUpdate(ctx context.Context, _ ReadUpdateRequestObject) (ReadUpdateResponseObject, error) {
	u, err := s.update(ctx)
	return ReadUpdate200JSONResponse(u), err
}

func (s *server) update(ctx context.Context) (model.Update, error) {
	u, failed, err := s.Updates.Read(ctx)
	if failed != nil {
		u.Problem = problem(failed)
	}
	return u, err
}

// StartUpdate implements startUpdate.
func (s *server) StartUpdate(ctx context.Context, r StartUpdateRequestObject) (StartUpdateResponseObject, error) {
	if err := s.Updates.Start(ctx, *r.Body); err != nil {
		return nil, err
	}
	u, err := s.update(ctx)
	return StartUpdate202JSONResponse(u), err
}

// putUpdate implements putUpdate.
func (s *server) putUpdate(c echo.Context) error {
	r := c.Request()
	body := &arriving{server: s, ctx: r.Context(), body: r.Body, control: http.NewResponseController(c.Response())}
	if err := body.patience(); err != nil {
		return err
	}
	if err := s.Updates.Put(r.Context(), body, c.QueryParam("restart") == "true"); err != nil {
		return err
	}
	u, err := s.update(r.Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, u)
}
