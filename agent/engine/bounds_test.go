package engine

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// TestNoNameEndsTheConnection asks for everything by names that are longer than the
// store's server takes.
func TestNoNameEndsTheConnection(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	submitted(t, e, "web01", spec())
	name, ctx := strings.Repeat("0", 70000), t.Context()
	file := File{Path: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }}
	for what, c := range map[string]struct {
		ask  func() error
		want error
	}{
		"view":           {func() error { _, err := e.View(ctx, name); return err }, ErrUnknown},
		"submit":         {func() error { _, err := e.Submit(ctx, name, spec(), "x", "ops", ""); return err }, ErrTooLarge},
		"order":          {func() error { _, _, err := e.Order(ctx, name, Order{Kind: model.OperationKindPause}); return err }, ErrUnknown},
		"forget":         {func() error { return e.Forget(ctx, name, 0) }, ErrUnknown},
		"kept":           {func() error { _, _, err := e.OpenKept(ctx, name, "a"); return err }, fs.ErrNotExist},
		"a file":         {func() error { _, _, err := e.OpenKept(ctx, "web01", name); return err }, fs.ErrNotExist},
		"keep":           {func() error { return e.Keep(ctx, "web01", []File{file}) }, ErrTooLarge},
		"batch":          {func() error { _, err := e.Batch(ctx, name); return err }, ErrNoBatch},
		"read a state":   {func() error { _, _, err := e.States().Read(ctx, "users."+name); return err }, auth.ErrNotFound},
		"make a state":   {func() error { return e.States().Create(ctx, "users."+name, nil) }, ErrTooLarge},
		"change a state": {func() error { return e.States().Update(ctx, "users."+name, nil, 1) }, auth.ErrChanged},
		"remove a state": {func() error { return e.States().Delete(ctx, "users."+name, 1) }, auth.ErrChanged},
		"list states":    {func() error { _, err := e.States().List(ctx, name); return err }, nil},
		"follow": {func() (err error) {
			for _, err = range e.Follow(ctx, name, 0) {
				break
			}
			return err
		}, ErrUnknown},
	} {
		if err := c.ask(); !errors.Is(err, c.want) {
			t.Errorf("%s: %.300v, want %v", what, err, c.want)
		}
		if err := e.Ready(ctx); err != nil {
			t.Fatalf("after %s the engine is away: %v", what, err)
		}
	}
}

func TestAnEngineThatIsLostSaysSo(t *testing.T) {
	t.Parallel()
	e := opened(t, config(t, quick(t)))
	_ = e.bus.conn.Publish(strings.Repeat("0", 70000), nil) // which fails if the server is quick
	select {
	case <-e.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("it is not said")
	}
	if err := e.Err(); err == nil || !strings.Contains(err.Error(), "was closed: nats: maximum control line exceeded") {
		t.Errorf("it is said as %v", err)
	}
	whole := opened(t, config(t, quick(t)))
	if err := whole.Close(); err != nil || whole.Err() != nil {
		t.Errorf("one that was closed is told of as %v, %v", err, whole.Err())
	}
}
