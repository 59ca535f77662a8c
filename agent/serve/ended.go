package serve

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/problem"
	"hyper2kvm/pipeline/durable"
)

// leave leaves why the agent has ended, unless it was told to.
func (a *agent) leave(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	for _, path := range a.endings() {
		if err := durable.Write(path, []byte(problem.Sentence(err)+"\n")); err != nil {
			a.log.Warn("the screen is not told why the agent has ended", "err", err)
		}
	}
}

// forget takes back what an agent has left before this one.
func (a *agent) forget() error {
	for _, path := range a.endings() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (a *agent) endings() (paths []string) {
	for _, l := range a.settings.Listen {
		if l.Unix != "" {
			paths = append(paths, config.Ended(l.Unix))
		}
	}
	return paths
}
