//go:build !appliance

package libguestfs

import (
	"context"
	"log/slog"

	"hyper2kvm/fixers/guest"
)

// Available tells whether this program was built with libguestfs.
const Available = false

func open(context.Context, []Export, Options, *slog.Logger) (guest.Guest, error) {
	return nil, ErrNotBuilt
}
