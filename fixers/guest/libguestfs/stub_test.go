//go:build !appliance

package libguestfs

import (
	"errors"
	"log/slog"
	"testing"
)

func TestOpenWithoutTheLibrarySaysSo(t *testing.T) {
	g, err := Open(t.Context(), nil, Options{}, slog.New(slog.DiscardHandler))
	if g != nil || !errors.Is(err, ErrNotBuilt) || Available {
		t.Errorf("Open = %v, %v, want ErrNotBuilt", g, err)
	}
}
