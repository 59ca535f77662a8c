package vcenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"hyper2kvm/agent/worker"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// Server is how a worker reaches a server. Its user has logged in there with that
// password: a runner is given none that was refused.
func (p *Pool) Server(ctx context.Context, name string) (w worker.Server, err error) {
	err = p.with(ctx, name, func(ctx context.Context, s *server, _ *shared) error {
		password, number, err := p.config.Secret(ctx, s.Secret)
		if err != nil {
			return err
		}
		w = worker.Server{Name: name, Address: s.Server.Server, User: s.User, Password: password, Number: number, Thumbprint: s.Thumbprint, CA: s.CA, Proxy: s.Proxy, Resolve: s.Resolve, Transports: s.Transports,
			VDDKModes: s.VDDKModes, VDDKPlugin: s.VDDKPlugin}
		if s.SSH != nil {
			w.SSH = *s.SSH
			w.SSH.Key = p.config.File(s.SSH.Key)
			if w.SSHPassword, err = p.atHosts(ctx, s); err != nil {
				return err
			}
		}
		if w.VDDK, err = p.vddk(s); err != nil {
			p.config.Log.Warn("disks are read without VMware's library", "server", name, "err", err)
		}
		return nil
	})
	return w, problem(err)
}

// atHosts is the password with which ESXi hosts are logged in to over SSH; nil if there is
// none.
func (p *Pool) atHosts(ctx context.Context, s *server) ([]byte, error) {
	if s.SSH.Secret == "" {
		return nil, nil
	}
	password, _, err := p.config.Secret(ctx, s.SSH.Secret)
	if err != nil {
		return nil, fmt.Errorf("the password for SSH at the hosts of the server %s: %w", s.Name, err)
	}
	return password, nil
}

// Refused takes note that a server has refused a password, which a runner was given.
func (p *Pool) Refused(w worker.Server, text string) {
	s, err := p.find(w.Name)
	if err != nil {
		return
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.tried == w.Number {
		s.no.Store(&refusal{text})
		p.log(s, s.retire())
	}
}

// Guests brings guests from vSphere. It implements worker.VSphere.
type Guests struct{}

// Origin implements worker.VSphere.
func (Guests) Origin(v worker.VM, id, folder string, log *slog.Logger, tell func(string)) (pipeline.Origin, error) {
	c := settled(v.Server, folder, log)
	c.VM, c.ID, c.Live, c.Quiesce, c.Limits, c.Tell = v.VM, id, v.Live, v.Quiesce, v.Limits, tell
	c.Power = vmware.PowerPolicy{Wait: v.ShutdownWait, Force: v.PowerOff}
	c.Marks = vmware.Marks{Note: v.Marks.Note, Rename: v.Marks.Rename, Folder: v.Marks.Folder, DisconnectNICs: v.Marks.Disconnect}
	if category, name, ok := strings.Cut(v.Marks.Tag, "/"); ok {
		c.Marks.Tag, c.Marks.CreateTag = vmware.Tag{Category: category, Name: name}, true
	}
	return vsphere.New(c)
}

func settled(s worker.Server, folder string, log *slog.Logger) vsphere.Config {
	c := vsphere.Config{Folder: folder, Log: log, Transports: s.Transports, VDDK: s.VDDK, VDDKModes: s.VDDKModes, VDDKPlugin: s.VDDKPlugin,
		Server: vmware.Config{Server: s.Address, User: s.User, Password: vmware.Secret(s.Password), Thumbprint: s.Thumbprint, CA: s.CA, Proxy: s.Proxy, Resolve: s.Resolve}}
	if s.SSH.User != "" {
		c.SSH = &transport.SSH{User: s.SSH.User, Key: s.SSH.Key, HostKeys: s.SSH.KnownHosts, Fingerprint: s.SSH.Fingerprint, Port: s.SSH.Port}
		if s.SSHPassword != nil {
			c.SSH.Password = func() string { return string(s.SSHPassword) }
		}
	}
	return c
}

// Owes implements worker.VSphere.
func (Guests) Owes(folder string) (bool, error) { return vsphere.Owes(folder) }

// Restore implements worker.VSphere.
func (Guests) Restore(ctx context.Context, s worker.Server, folder string, log *slog.Logger) error {
	_, err := vsphere.Restore(ctx, settled(s, folder, log))
	return err
}

// File implements worker.VSphere.
func (Guests) File() string { return vsphere.File }

// Code implements worker.VSphere.
func (Guests) Code(err error) string {
	if errors.Is(err, vmware.ErrLogin) {
		return worker.CodeLogin
	}
	return ""
}
