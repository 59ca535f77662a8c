package engine

import (
	"context"
	"fmt"
	"time"
)

// StreamStatus is how a stream of the engine's is.
type StreamStatus struct {
	Name     string    `json:"name"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	First    uint64    `json:"first"`
	Last     uint64    `json:"last"`
	Changed  time.Time `json:"changed"`
	Readers  int       `json:"readers"`
	Replicas int       `json:"replicas"`
}

// Status is how the engine is, for people.
type Status struct {
	ID      string         `json:"id"`
	Shape   string         `json:"shape"`
	Running []string       `json:"running"`
	Leased  time.Time      `json:"leased"` // until when this appliance may work
	Streams []StreamStatus `json:"streams"`
}

// Status tells how the engine is.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	s := Status{ID: e.id, Shape: "elsewhere", Running: e.Running(), Leased: e.leased()}
	if e.bus.server != nil {
		s.Shape = "embedded"
	}
	for _, name := range append([]string{"KV_appliances"}, snapshotted...) {
		stream, err := e.bus.js.Stream(ctx, name)
		if err != nil {
			return s, fmt.Errorf("ask for %s: %w", name, err)
		}
		i := stream.CachedInfo()
		s.Streams = append(s.Streams, StreamStatus{name, i.State.Msgs, i.State.Bytes, i.State.FirstSeq, i.State.LastSeq, i.State.LastTime, i.State.Consumers, i.Config.Replicas})
	}
	return s, nil
}
