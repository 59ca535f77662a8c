package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Snapshot is a stream as it was at one moment: all that is in it, with its numbers and
// times, and where its readers were.
type Snapshot struct {
	Stream string          // its name
	Config json.RawMessage // of the stream, as the server has it
	State  json.RawMessage // of the stream, as the server has it
	Path   string          // of the file with its content
}

// snapshotted are the streams of which snapshots are taken, in this order: no event tells
// of a record that is not there yet, and what is kept of a migration is at least as new
// as its record. Heartbeats are not among them.
var snapshotted = []string{"EVENTS", "KV_states", "KV_jobs", "OBJ_kept", "AUDIT"}

// Of snapshots: how large a piece is, in bytes, and how long the server may be silent.
const (
	snapshotChunk  = 512 << 10
	snapshotSilent = 30 * time.Second
)

// ErrElsewhere is what only the appliance can do that keeps what all of them share.
var ErrElsewhere = errors.New("what is kept lies elsewhere")

// Snapshots writes what is kept into files of a folder, each stream as it is at one
// moment, while the engine works.
func (e *Engine) Snapshots(ctx context.Context, folder string) (list []Snapshot, err error) {
	if e.bus.server == nil {
		return nil, fmt.Errorf("%w: this appliance keeps nothing of migrations itself", ErrElsewhere)
	}
	for _, stream := range snapshotted {
		s, err := e.bus.snapshot(ctx, stream, filepath.Join(folder, stream))
		if err != nil {
			return nil, fmt.Errorf("take a snapshot of %s: %w", stream, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// apiError is what the server answers when it will not.
type apiError struct {
	Error *struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
}

func (a apiError) err() error {
	if a.Error == nil {
		return nil
	}
	return fmt.Errorf("the server answers %d: %s", a.Error.Code, a.Error.Description)
}

// ask sends a request of JetStream's own API.
func (b *bus) ask(ctx context.Context, subject string, request, answer any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotSilent)
	defer cancel()
	m, err := b.conn.RequestWithContext(ctx, subject, text)
	if err != nil {
		return err
	}
	var refused apiError
	if err := json.Unmarshal(m.Data, &refused); err != nil {
		return err
	}
	if err := refused.err(); err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

// snapshot writes a stream's content into a file.
//
// Source: nats-server, ADR-44 and server/jetstream_api.go, streamSnapshot: pieces are
// acknowledged, the last one is empty, and has a status if something went wrong.
func (b *bus) snapshot(ctx context.Context, stream, path string) (s Snapshot, err error) {
	inbox := b.conn.NewInbox()
	pieces, err := b.conn.SubscribeSync(inbox)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, pieces.Unsubscribe()) }()
	if err := pieces.SetPendingLimits(-1, 64<<20); err != nil {
		return s, err
	}
	var answer struct{ Config, State json.RawMessage }
	if err := b.ask(ctx, "$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox, "chunk_size": snapshotChunk, "jsck": true}, &answer); err != nil {
		return s, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return Snapshot{stream, answer.Config, answer.State, path}, receive(ctx, pieces, f)
}

// receive writes pieces until the last one.
func receive(ctx context.Context, pieces *nats.Subscription, w io.Writer) error {
	for {
		m, err := next(ctx, pieces)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("it ended with %s: %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
	}
}

func next(ctx context.Context, pieces *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, snapshotSilent, fmt.Errorf("nothing came for %v", snapshotSilent))
	defer cancel()
	m, err := pieces.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}

// Restore makes what an engine of this state folder keeps out of snapshots. The folder
// holds nothing of an engine's yet, and no engine may be open on it.
func Restore(ctx context.Context, c Config, list []Snapshot) (err error) {
	id, err := Identity(c.State)
	if err != nil {
		return err
	}
	b := newBus()
	defer func() { err = errors.Join(err, b.close()) }()
	if b.server, err = startServer(Config{State: c.State, Name: c.Name, Log: c.Log}, id, b.secret); err != nil {
		return err
	}
	if b.conn, err = b.connect(c, id); err != nil {
		return err
	}
	for _, s := range list {
		if !slices.Contains(snapshotted, s.Stream) {
			return fmt.Errorf("the backup holds %q, which this program does not know", s.Stream)
		}
		if err := b.restore(ctx, s, 1); err != nil {
			return fmt.Errorf("restore %s: %w", s.Stream, err)
		}
	}
	return nil
}

// restore makes a stream out of a snapshot, that is kept so many times, whatever the one
// did that it comes from.
//
// Source: nats-server, server/jetstream_api.go, processStreamRestore.
func (b *bus) restore(ctx context.Context, s Snapshot, replicas int) (err error) {
	config, err := replicated(s.Config, replicas)
	if err != nil {
		return err
	}
	var to struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	if err := b.ask(ctx, "$JS.API.STREAM.RESTORE."+s.Stream, map[string]json.RawMessage{"config": config, "state": s.State}, &to); err != nil {
		return err
	}
	f, err := os.Open(s.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for buffer := make([]byte, snapshotChunk); ; {
		n, err := io.ReadFull(f, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		done, err := b.piece(ctx, to.DeliverSubject, buffer[:n])
		if err != nil || done {
			return err
		}
	}
}

// piece sends a part of a snapshot, and tells whether that was its end: an empty one.
// The server answers a piece with nothing, or with why it will take no more. It may be
// another server, of which this one hears a moment later.
func (b *bus) piece(ctx context.Context, subject string, part []byte) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotSilent)
	defer cancel()
	var m *nats.Msg
	unheard := func(err error) bool { return errors.Is(err, nats.ErrNoResponders) }
	if err := insistFor(ctx, snapshotSilent, unheard, func(ctx context.Context) (err error) {
		m, err = b.conn.RequestWithContext(ctx, subject, part)
		return err
	}); err != nil {
		return false, err
	}
	var refused apiError
	if len(m.Data) > 0 {
		if err := json.Unmarshal(m.Data, &refused); err != nil {
			return false, err
		}
	}
	return len(part) == 0, refused.err()
}

// replicated is a stream's configuration with another number of replicas.
func replicated(config json.RawMessage, replicas int) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	fields["num_replicas"] = json.RawMessage(strconv.Itoa(replicas))
	return json.Marshal(fields)
}
