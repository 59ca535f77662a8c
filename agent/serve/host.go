package serve

import (
	"context"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/proc"
)

// host finds out what this host can run machines with, and remembers it for a while.
type host struct {
	version string

	mu    sync.Mutex
	known model.Host
	until time.Time
}

// remembered is how long what was found out holds.
const remembered = time.Hour

func newHost(version string) *host { return &host{version: version} }

// read is what was found out. Whoever asks first waits for it; it is not given up when
// they go away.
func (h *host) read(ctx context.Context) (model.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.known, nil
	}
	ctx = context.WithoutCancel(ctx)
	choice, err := accel.Probe(ctx)
	if err != nil {
		return model.Host{}, err
	}
	v := model.Host{Version: h.version, Accelerator: model.HostAccelerator(choice.Name), Reason: choice.Reason, Missing: Missing()}
	for _, e := range pipeline.Engines(ctx) {
		v.Engines = append(v.Engines, struct {
			Name   string `json:"name"`
			Reason string `json:"reason"`
		}{e.Name, e.Reason})
	}
	h.known, h.until = v, time.Now().Add(remembered)
	return v, nil
}

// Missing are the programs that migrations need and this host lacks.
func Missing() []string {
	missing := []string{}
	for _, p := range proc.Programs {
		if _, err := proc.Look(p.Name); err != nil && !p.Build && !p.Bench && !p.Image && !p.Hook {
			missing = append(missing, err.Error())
		}
	}
	return missing
}
