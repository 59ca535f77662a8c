package serve

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
)

func TestTheEndOfTheLogIsRemembered(t *testing.T) {
	var out bytes.Buffer
	r := &Recent{}
	log := slog.New(r.Over(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("part", "test")
	log.Debug("too much")
	log.Info("informative")
	log.Warn("worse")
	if got := string(r.Text()); strings.Contains(got, "too much") || !strings.Contains(got, "msg=informative part=test") || !strings.Contains(got, "worse") {
		t.Errorf("remembered is %s", got)
	}
	if got := out.String(); strings.Contains(got, "informative") || !strings.Contains(got, "msg=worse part=test") {
		t.Errorf("logged is %s", got)
	}
	log = slog.New(r.Over(slog.NewTextHandler(io.Discard, nil)))
	long := strings.Repeat("x", 2*maxLine)
	for range 2 * maxRecent / maxLine {
		log.Info(long)
	}
	log.Info("the last")
	if got := r.Text(); len(got) > maxRecent || len(got) < maxRecent-2*maxLine || bytes.Contains(got, []byte("worse")) || !bytes.Contains(got, []byte("the last")) {
		t.Errorf("remembered are %d bytes", len(got))
	}
}
