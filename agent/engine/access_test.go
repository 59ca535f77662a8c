package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/fleet/fleettest"
)

// hub is an engine that others can reach, and its fleet.
func hub(t *testing.T) (*fleettest.Fleet, *Engine) {
	t.Helper()
	f, state := founded(t)
	c := config(t, quick(t))
	c.State = state
	c.Shape = Shape{Listen: freePort(t), TLS: f.Member.TLS()}
	e := opened(t, c)
	f.Store, f.Cut = e.States(), e.Cut
	return f, e
}

// dialled is a connection to a hub with a certificate; why it is not made if it is nil.
func dialled(t *testing.T, e *Engine, id string, c *tls.Config) (*nats.Conn, error) {
	t.Helper()
	conn, err := nats.Connect("tls://"+e.config.Shape.Listen, nats.Secure(c), nats.TLSHandshakeFirst(), nats.CustomInboxPrefix(inboxes(id)), nats.NoReconnect(), nats.PermissionErrOnSubscribe(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err == nil {
		t.Cleanup(conn.Close)
	}
	return conn, err
}

func TestOnlyWhoHasACertificateReachesTheHub(t *testing.T) {
	t.Parallel()
	f, e := hub(t)
	other, _ := founded(t)
	stranger := other.Joined(t, t.TempDir(), "a2", fleet.Worker).TLS()
	stranger.InsecureSkipVerify, stranger.VerifyConnection = true, nil
	f.Now = func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }
	old := f.Joined(t, t.TempDir(), "a3", fleet.Worker).TLS()
	f.Now = nil
	for words, c := range map[string]*tls.Config{
		"it shows no certificate":             {InsecureSkipVerify: true},
		"its certificate is of another fleet": stranger,
		"its certificate has run out":         old,
	} {
		if _, err := dialled(t, e, "a2", c); err == nil || !strings.Contains(fleet.Explain(err).Error(), words) {
			t.Errorf("refused with %v, want %q", err, words)
		}
	}
	if _, err := nats.Connect("nats://" + e.config.Shape.Listen); err == nil {
		t.Error("it can be reached without TLS")
	}
	if _, err := dialled(t, e, "a4", f.Joined(t, t.TempDir(), "a4", fleet.Worker).TLS()); err != nil {
		t.Errorf("a member is refused: %v", err)
	}
}

func TestOneThatIsRemovedIsCutOff(t *testing.T) {
	t.Parallel()
	f, e := hub(t)
	m := f.Joined(t, t.TempDir(), "a2", fleet.Worker)
	conn, err := dialled(t, e, "a2", m.TLS())
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(gone) })
	began := time.Now()
	if err := f.Remove(t.Context(), fleettest.Admin, "a2"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Logf("cut off after %v", time.Since(began))
	case <-time.After(5 * time.Second):
		t.Error("its connection goes on")
	}
	if _, err := dialled(t, e, "a2", m.TLS()); err == nil || !strings.Contains(fleet.Explain(err).Error(), "it was removed from the fleet") {
		t.Errorf("it comes back: %v", err)
	}
}

func TestAWorkerMayDoWhatItsEngineNeedsAndNoMore(t *testing.T) {
	t.Parallel()
	f, e := hub(t)
	conn, err := dialled(t, e, "a2", f.Joined(t, t.TempDir(), "a2", fleet.Worker).TLS())
	if err != nil {
		t.Fatal(err)
	}
	asked := func(subject, text string) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		ctx, stop := context.WithTimeout(ctx, startLimit)
		defer stop()
		conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { cancel(err) }) // a request that is refused has no answer
		if _, err := conn.RequestWithContext(ctx, subject, []byte(text)); ctx.Err() == nil {
			return err
		}
		return context.Cause(ctx)
	}
	for subject, text := range map[string]string{
		"$JS.API.STREAM.CREATE.X":         `{"name":"X","subjects":["x"]}`,
		"$JS.API.STREAM.DELETE.EVENTS":    "",
		"$JS.API.STREAM.PURGE.KV_jobs":    "",
		"$JS.API.STREAM.UPDATE.EVENTS":    `{"name":"EVENTS","subjects":["events.>"]}`,
		"$JS.API.STREAM.SNAPSHOT.KV_jobs": `{"deliver_subject":"_INBOX.a2.x"}`,
		"$JS.API.STREAM.MSG.DELETE.AUDIT": `{"seq":1}`,
		"$JS.API.STREAM.NAMES":            "",
		"$KV.appliances.a3":               "{}",
		"$KV.states.fleet.removed":        "{}",
		"$SYS.REQ.SERVER.PING":            "",
	} {
		if err := asked(subject, text); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s is not refused: %v", subject, err)
		}
	}
	for subject, text := range map[string]string{"$JS.API.STREAM.INFO.KV_jobs": "", "$KV.appliances.a2": "{}", "$KV.states.users": "{}"} {
		if err := asked(subject, text); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}
	for _, subject := range []string{"_INBOX.>", "$KV.>", ">"} { // what others are answered and told
		if err := listens(conn, subject); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("it hears %s: %v", subject, err)
		}
	}
}

// listens tells whether a connection may hear what is said on a subject.
func listens(conn *nats.Conn, subject string) error {
	s, err := conn.SubscribeSync(subject)
	if err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	_, err = s.NextMsg(startLimit)
	return err
}

// TestAnExistingNATSIsShared has two appliances work with a server that is neither's.
func TestAnExistingNATSIsShared(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(startLimit) {
		t.Fatal("the server is not ready")
	}
	w := quick(t)
	idle := config(t, quick(t))
	idle.Shape, idle.Capacity = Shape{URL: s.ClientURL(), External: true}, 0
	busy := config(t, w)
	busy.Shape, busy.Name = idle.Shape, "a2"
	e := opened(t, idle)
	opened(t, busy)
	submitted(t, e, "web01", spec())
	if m := ends(t, e, "web01", model.StateDone); m.Verdict != model.VerdictProved || w.count("web01") != 3 {
		t.Errorf("it ended as %+v", m)
	}
}
