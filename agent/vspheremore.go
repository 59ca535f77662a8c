package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
)

// watch tells what becomes of VMs until it is interrupted.
func (a *app) watch() *cobra.Command {
	var f vsphereFlags
	c := oneOf("watch SERVER", "Tell of every VM, and then of what becomes of them, a line of JSON each", oneArg("SERVER"), func(ctx context.Context, args []string) error {
		return f.within(ctx, a, args[0], func(session *vmware.Session) error {
			for change, err := range session.Watch(ctx) {
				if err != nil {
					return vsphere.Asked(err)
				}
				if err := a.jsonLine(change); err != nil {
					return err
				}
			}
			return context.Cause(ctx)
		})
	})
	f.addServer(c)
	return c
}

// sweep removes what migrations left whose folders are lost.
func (a *app) sweep() *cobra.Command {
	var f vsphereFlags
	c := oneOf("sweep SERVER ID...", "Remove what migrations left in vSphere whose folders are lost", aServer, func(ctx context.Context, args []string) error {
		if len(args) < 2 {
			return fmt.Errorf("%w: sweep takes IDs of migrations: they stand in the names of what is left, behind hyper2kvm", errUsage)
		}
		return f.within(ctx, a, args[0], func(session *vmware.Session) error {
			own, err := f.ownVM(ctx, session)
			if err != nil {
				return vsphere.Asked(err)
			}
			return vsphere.Asked(session.Sweep(ctx, a.log(), own, args[1:]...))
		})
	})
	c.Long = `Remove the snapshots, the clones and the attached disks of migrations whose folders are
lost, such as that of an inspection that was killed. Their IDs stand in the names of
what is left: "hyper2kvm ID live" is a snapshot of the migration ID. Where the folder
is there, "vsphere restore" knows more. A VM that was shut down stays off.`
	f.addServer(c)
	f.addOwn(c)
	return c
}

// ownVM is the VM that this program runs in; "" if it runs in none of the server's.
func (f *vsphereFlags) ownVM(ctx context.Context, session *vmware.Session) (string, error) {
	if f.own != "" {
		own, err := session.One(ctx, f.own)
		return own.Ref, err
	}
	own, err := session.OwnVM(ctx)
	if errors.Is(err, vmware.ErrNotFound) {
		err = nil
	}
	return own, err
}

// within has something done in a session at a server.
func (f *vsphereFlags) within(ctx context.Context, a *app, server string, do func(*vmware.Session) error) (err error) {
	host, user, err := vsphere.ParseServer(server)
	if err != nil {
		return err
	}
	c, err := f.server(a, host, user)
	if err != nil {
		return err
	}
	session, err := vmware.Connect(ctx, c)
	if err != nil {
		return vsphere.Asked(err)
	}
	defer func() { err = errors.Join(err, session.Close(context.WithoutCancel(ctx))) }()
	return do(session)
}
