package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/update"
	"hyper2kvm/agent/webfile"
	"hyper2kvm/pipeline/proc"
)

// versions are those on the disk of the machine.
type versions interface {
	Version() (string, error)
	Look(ctx context.Context) (update.Status, error)
	Install(ctx context.Context, from io.Reader, done func(int64)) (version string, err error)
}

// updates are those of this appliance. One is installed at a time.
type updates struct {
	ctx      context.Context // of the agent: who has asked may go away
	machine  versions
	storages storage.Reached
	running  func() []string // migrations, here
	restart  func(context.Context) error
	grace    time.Duration // before that
	log      *slog.Logger

	mu     sync.Mutex
	now    *model.Installing // nil: none
	note   string            // how the last one ended
	failed error             // or why it did not come to its end
}

func (a *agent) updates(ctx context.Context) (*updates, error) {
	m, err := update.ThisMachine()
	return &updates{ctx: ctx, machine: m, storages: a.storages, running: a.engine.Running, restart: restart, grace: grace, log: a.log}, err
}

// grace is long enough for who has asked for an update, and asks again and again how it
// goes, to be told that this appliance restarts.
const grace = 15 * time.Second

// restart has systemd restart this machine, which stops the agent first.
func restart(ctx context.Context) error {
	_, err := proc.Run(ctx, "systemctl", "reboot")
	return err
}

// Read implements api.Updates.
func (u *updates) Read(ctx context.Context) (m model.Update, failed, err error) {
	u.mu.Lock()
	note, failed := u.note, u.failed
	now := model.Installing{}
	if u.now != nil {
		now = *u.now
	}
	u.mu.Unlock()
	if now.From != "" { // the disk is not looked at meanwhile
		runs, err := u.machine.Version()
		return model.Update{Running: runs, State: model.UpdateStateNone, Takes: true, Installing: now}, nil, err
	}
	s, err := u.machine.Look(ctx)
	if err != nil && !errors.Is(err, update.ErrCannot) {
		return m, failed, err
	}
	m = model.Update{Running: s.Running, Trial: s.Trial, Other: s.Other, State: model.UpdateState(s.State), Started: s.Started, Takes: err == nil, Note: cmp.Or(note, s.Sentence())}
	if s.Other != "" {
		m.Installed = s.Installed.UTC()
	}
	if err != nil {
		m.Why = err.Error()
	}
	return m, failed, nil
}

// Start implements api.Updates.
func (u *updates) Start(ctx context.Context, r model.UpdateRequest) error {
	name := r.URL
	if name == "" {
		name = r.Storage + ":" + r.Path
	}
	if err := u.begin(name); err != nil {
		return err
	}
	from, err := u.open(r)
	if err != nil {
		u.end("", nil)
		return err
	}
	go func() {
		if err := errors.Join(u.install(u.ctx, from, r.Restart), from.Close()); err != nil {
			u.log.Error("the update was not installed", "from", name, "err", err)
			u.end("the update from "+name+" was not installed", err)
		}
	}()
	return nil
}

// Put implements api.Updates.
func (u *updates) Put(ctx context.Context, from io.Reader, restart bool) error {
	if err := u.begin("the client"); err != nil {
		return err
	}
	err := u.install(ctx, from, restart)
	if err != nil {
		u.end("", nil)
	}
	return err
}

// open opens what is asked for.
func (u *updates) open(r model.UpdateRequest) (io.ReadCloser, error) {
	switch {
	case r.URL != "" && r.Storage == "":
		return webfile.Open(u.ctx, r.URL, r.Ca)
	case r.URL == "" && r.Storage != "" && r.Path != "":
		s, err := u.storages.Now().Find(r.Storage)
		if err != nil {
			return nil, err
		}
		return s.Open(r.Path)
	}
	return nil, fmt.Errorf("%w: give a storage and a path in it, or a URL", update.ErrArchive)
}

func (u *updates) begin(from string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now != nil {
		return update.ErrBusy
	}
	u.now, u.note, u.failed = &model.Installing{From: from, Began: time.Now().UTC()}, "", nil
	return nil
}

func (u *updates) end(note string, failed error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now, u.note, u.failed = nil, note, failed
}

// install installs one, and restarts the machine if that is asked for and nothing runs.
func (u *updates) install(ctx context.Context, from io.Reader, again bool) error {
	version, err := u.machine.Install(ctx, from, func(n int64) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.now.Written += n
	})
	if err != nil {
		return err
	}
	u.log.Info("an update is installed, and is started next", "version", version)
	switch {
	case !again:
		u.end("", nil)
	case u.busy(version):
	default:
		u.end(fmt.Sprintf("version %s is installed, and this appliance restarts", version), nil)
		go u.restarts(version)
	}
	return nil
}

// busy tells whether migrations run, and says so: they are not cut off.
func (u *updates) busy(version string) bool {
	n := len(u.running())
	if n > 0 {
		u.end(fmt.Sprintf("version %s is installed and is started next; %d migrations run, so this appliance was not restarted: restart it when they have ended, or before, and they go on then", version, n), nil)
	}
	return n > 0
}

// restarts restarts this appliance soon, unless something that it would cut off has begun
// meanwhile.
func (u *updates) restarts(version string) {
	select {
	case <-u.ctx.Done():
		return
	case <-time.After(u.grace):
	}
	u.mu.Lock()
	another := u.now != nil
	u.mu.Unlock()
	if another || u.busy(version) {
		return
	}
	if err := u.restart(u.ctx); err != nil {
		u.log.Error("this appliance could not be restarted", "err", err)
		u.end(fmt.Sprintf("version %s is installed and is started next; this appliance could not be restarted: %v", version, err), nil)
	}
}
