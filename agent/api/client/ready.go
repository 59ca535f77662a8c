package client

import (
	"context"
	"net/http"
	"strings"
)

// Ready tells whether migrations can be read and written there: nil if they can, a
// Refusal if the appliance answers and they cannot. It is asked once, and not again as
// questions are.
func (c *Conn) Ready(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.api.Server, "/api/v1/")+"/readyz", nil)
	if err != nil {
		return err
	}
	reply, err := c.once.Do(r)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return done(reply, err)
}
