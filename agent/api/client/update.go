package client

import (
	"context"
	"io"
	"net/http"

	"hyper2kvm/agent/api/model"
)

// Update is which versions are on the appliance's disk, and how an update goes.
func (c *Conn) Update(ctx context.Context) (model.Update, error) {
	return into[model.Update](c.api.ReadUpdate(ctx))
}

// StartUpdate has the appliance update itself from where it reaches.
func (c *Conn) StartUpdate(ctx context.Context, r model.UpdateRequest) (model.Update, error) {
	return into[model.Update](c.api.StartUpdate(ctx, r))
}

// PutUpdate sends an update, and comes back when it is installed.
func (c *Conn) PutUpdate(ctx context.Context, from io.Reader, size int64, restart bool) (model.Update, error) {
	return into[model.Update](c.api.PutUpdateWithBody(ctx, &model.PutUpdateParams{Restart: restart}, "application/octet-stream", from, func(_ context.Context, r *http.Request) error {
		r.ContentLength = size
		return nil
	}))
}
