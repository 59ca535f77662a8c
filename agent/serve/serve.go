// Package serve runs an appliance's agent: it joins the settings, the durable engine,
// the workers, and the API on all ways in, and ends them in order.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/bundle"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/disks"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/hooks"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/upload"
	"hyper2kvm/agent/vcenter"
	"hyper2kvm/agent/worker"
	"hyper2kvm/pipeline"
)

// Run serves until ctx ends. What runs then is stopped where it can be gone on with.
// Out tells people where the API is, once it answers.
func Run(ctx context.Context, s *config.Settings, version string, out io.Writer, log *slog.Logger) error {
	return newAgent(s, version, log).run(ctx, out)
}

func newAgent(s *config.Settings, version string, log *slog.Logger) *agent {
	recent := &Recent{}
	return &agent{settings: s, machine: disks.ThisMachine(), version: version, recent: recent, log: slog.New(recent.Over(log.Handler()))}
}

func (a *agent) run(ctx context.Context, out io.Writer) (err error) {
	defer func() {
		err = errors.Join(err, a.close())
		a.leave(ctx, err)
	}()
	if err := a.open(ctx); err != nil {
		return err
	}
	ways, err := a.listen()
	if err != nil {
		return err
	}
	return a.serve(ctx, ways, out)
}

// agent is what runs.
type agent struct {
	settings  *config.Settings
	machine   disks.Machine // whose attached disks are looked for
	version   string
	log       *slog.Logger
	recent    *Recent
	engine    *engine.Engine
	gate      *auth.Gate
	secrets   *seal.Secrets
	storages  *storage.Set
	disks     *disks.Keeper
	uploads   *upload.Receiver
	libraries api.Libraries
	downloads *downloads.Keeper
	hooks     hooks.Runner
	vsphere   *vcenter.Pool
	own       *seal.Sealer  // this appliance's
	sealer    *seal.Sealer  // with the keys of its fleet
	member    *fleet.Member // nil if it is in no fleet
	fleet     *fleet.Registry
}

func (a *agent) close() error {
	var failed []error
	if a.downloads != nil {
		failed = append(failed, a.downloads.Close())
	}
	if a.engine != nil {
		failed = append(failed, a.engine.Close())
	}
	if a.disks != nil { // which workers use
		failed = append(failed, a.disks.Close())
	}
	if a.vsphere != nil { // whose sessions workers use
		failed = append(failed, a.vsphere.Close())
	}
	return errors.Join(failed...)
}

// open starts the engine. Its workers need what only it has, and work when it is there.
func (a *agent) open(ctx context.Context) error {
	if err := a.reach(); err != nil {
		return err
	}
	if err := os.MkdirAll(a.settings.State, 0o700); err != nil {
		return err
	}
	id, err := engine.Identity(a.settings.State)
	if err != nil {
		return err
	}
	if err := a.receive(); err != nil {
		return err
	}
	if err := a.joined(ctx, id); err != nil {
		return err
	}
	if err := a.offer(); err != nil {
		return err
	}
	opened := make(chan struct{})
	a.servers(opened)
	a.hooks = hooks.Runner{Folder: a.settings.Hooks.Folder, User: a.settings.Hooks.User, Webhooks: a.webhook}
	w := &worker.Worker{Version: a.version, Storages: a.storages, Log: a.log, Hooks: a.hooks, Secret: a.secret(opened), Keep: a.keep(opened), Plan: a.plan(opened),
		Scratch: filepath.Join(a.settings.State, "looks"), VSphere: vcenter.Guests{}, Server: a.vsphere.Server, Refused: a.vsphere.Refused}
	c, err := a.engineConfig(ctx, w)
	if err != nil {
		return err
	}
	if w.Groups, err = worker.OpenGroups(id, a.log); err != nil {
		return err
	}
	if err := tidyScratch(w.Scratch, w.VSphere); err != nil {
		return err
	}
	if a.engine, err = engine.Open(ctx, c); err != nil {
		return err
	}
	if err := a.attach(ctx, w); err != nil {
		return err
	}
	a.secrets = seal.NewSecrets(a.engine.States(), a.sealer)
	a.gate = auth.New(a.engine.States(), a.engine, time.Now)
	if err := a.seed(ctx); err != nil {
		return err
	}
	close(opened)
	a.fleet, err = a.registry(id)
	return err
}

func (a *agent) secret(opened <-chan struct{}) func(context.Context, string) (seal.Secret, error) {
	return func(ctx context.Context, name string) (seal.Secret, error) {
		select {
		case <-opened:
			return a.secrets.Open(ctx, name)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (a *agent) keep(opened <-chan struct{}) func(context.Context, string, []engine.File) error {
	return func(ctx context.Context, id string, files []engine.File) error {
		select {
		case <-opened:
			return a.engine.Keep(ctx, id, files)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *agent) plan(opened <-chan struct{}) func(context.Context, engine.Record) ([]byte, error) {
	return func(ctx context.Context, r engine.Record) ([]byte, error) {
		select {
		case <-opened:
			return a.engine.Plan(ctx, r)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// engineConfig is the engine's part of the settings.
func (a *agent) engineConfig(ctx context.Context, w engine.Worker) (c engine.Config, err error) {
	s := a.settings
	c = engine.Config{State: s.State, Name: s.Appliance.Name, Version: a.version, Storages: a.settingsStorages().Names(), Servers: a.serverNames(), Capacity: s.Capacity, Limits: map[string]int{},
		Lease: time.Duration(s.Engine.Lease), Audit: time.Duration(s.Audit.Keep), Keep: engine.Keep{For: time.Duration(s.Keep.For), Count: s.Keep.Count}, Worker: w, Explain: fleet.Explain, Log: a.log}
	for _, l := range s.Limits {
		c.Limits["storage:"+l.Storage] = l.AtOnce
	}
	c.Shape, err = a.shape(ctx)
	return c, err
}

// serve answers on all ways until ctx ends or one of them fails.
func (a *agent) serve(ctx context.Context, ways []way, out io.Writer) error {
	provider, err := a.provider()
	if err != nil {
		return err
	}
	c, err := a.apiConfig(ctx, provider)
	if err != nil {
		return err
	}
	handler, err := api.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := answer(ways, handler, usual, a.log, cancel)
	defer stop()
	if err := a.tell(ctx, ways, out); err != nil {
		return err
	}
	a.care(ctx)
	if err := a.belong(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-a.engine.Lost():
		return a.engine.Err()
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyStopping); err != nil {
		a.log.Warn("systemd was not told of the end", "err", err)
	}
	return context.Cause(ctx)
}

func (a *agent) apiConfig(ctx context.Context, provider api.Provider) (api.Config, error) {
	settings, err := a.settings.Dump()
	if err != nil {
		return api.Config{}, err
	}
	updates, err := a.updates(ctx)
	if err != nil {
		return api.Config{}, err
	}
	host, name := newHost(a.version), a.settings.Appliance.Name
	return api.Config{Engine: a.engine, Gate: a.gate, Secrets: a.secrets, Provider: provider, Storages: a.storages, Fleet: a.fleet, Uploads: a.uploads, Libraries: a.libraries, Disks: a.disks, Downloads: a.downloads, Updates: updates, VSphere: a.vsphere, Host: host.read, Version: a.version, Log: a.log,
		Backup: &backup.Source{Engine: a.engine, State: a.settings.State, About: backup.About{Version: a.version, Appliance: name, ID: a.engine.ID()}, Settings: settings, Now: time.Now},
		Bundle: &bundle.Source{Engine: a.engine, Storages: a.storages, Host: host.read, Settings: settings, Recent: a.recent.Text, Appliance: name, Now: time.Now,
			Versions: func(ctx context.Context) map[string]string { return pipeline.Versions(ctx, a.version) }},
	}, nil
}

// tell says that the agent is ready, to systemd, to people and to the screen.
func (a *agent) tell(ctx context.Context, ways []way, out io.Writer) error {
	for _, w := range ways {
		if _, err := fmt.Fprintf(out, "listening on %s%s\n", w.name, w.note); err != nil {
			return err
		}
	}
	begun, err := a.gate.Begun(ctx)
	if err != nil {
		return err
	}
	if !begun {
		if _, err := fmt.Fprintln(out, "nobody has access yet: run hyper2kvm code on this machine to make the first admin"); err != nil {
			return err
		}
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return a.forget()
}
