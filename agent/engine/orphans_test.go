package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"hyper2kvm/agent/api/model"
)

// text is a small file that is to be kept.
func text(path, content string) File {
	return File{path, int64(len(content)), time.Now(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// remains is what is kept: lists by their migrations, files by their names, and how many
// subjects have pieces.
func remains(t *testing.T, e *Engine) (lists, names []string, pieced int) {
	t.Helper()
	lists, err := e.States().List(t.Context(), keptPrefix)
	if err != nil {
		t.Fatal(err)
	}
	all, err := e.bus.kept.List(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		t.Fatal(err)
	}
	for _, o := range all {
		names = append(names, o.Name)
	}
	slices.Sort(lists)
	slices.Sort(names)
	stream, err := e.bus.js.Stream(t.Context(), "OBJ_kept")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(pieces+">"))
	if err != nil {
		t.Fatal(err)
	}
	return lists, names, len(info.State.Subjects)
}

// TestWhatAKillLeftIsTakenAway has everything there that an agent leaves which is killed
// between two writes, does so where it would, and opens the engine again.
func TestWhatAKillLeftIsTakenAway(t *testing.T) {
	t.Parallel()
	c := config(t, quick(t))
	e := opened(t, c)
	for _, id := range []string{"whole", "forgotten"} {
		submitted(t, e, id, spec())
		ends(t, e, id, model.StateDone)
		keeps(t, e, id)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(e.bus.jobs.Delete(t.Context(), "forgotten"))                              // killed in Forget
	must(e.keepFile(t.Context(), "whole", text("unlisted.log", "login:")))         // in Keep, before the list; so did earlier versions, and it stays
	must(e.keepFile(t.Context(), "never", text("approved.json", "{}")))            // in Submit
	_, err := e.bus.js.Publish(context.Background(), pieces+"cut", []byte("half")) // in keepFile
	must(err)
	must(e.sweepKept(t.Context(), time.Now()))
	if lists, names, pieced := remains(t, e); len(lists) != 2 || len(names) != 4 || pieced != 5 {
		t.Errorf("of what is young left are %v, %v and pieces of %d", lists, names, pieced)
	}
	must(e.Close())
	c.Now = func() time.Time { return time.Now().Add(young + time.Minute) }
	e = opened(t, c)
	limit := time.Now().Add(20 * time.Second)
	for {
		lists, names, pieced := remains(t, e)
		if slices.Equal(lists, []string{"kept.whole"}) && slices.Equal(names, []string{"whole/report.md", "whole/unlisted.log"}) && pieced == 2 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("left are %v, %v and pieces of %d", lists, names, pieced)
		}
		time.Sleep(5 * time.Millisecond)
	}
	r, _, err := e.OpenKept(t.Context(), "whole", "report.md")
	must(err)
	if content, err := io.ReadAll(r); err != nil || string(content) != "it booted" || r.Close() != nil {
		t.Errorf("what is kept is %q, %v", content, err)
	}
}
