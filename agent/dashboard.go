package main

import (
	"context"
	"errors"
	"os"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/dashboard"
)

// report is where first boot tells what it did.
const report = "/run/hyper2kvm/first-boot.json"

func (a *app) dashboard() *cobra.Command {
	var files []string
	var socket string
	c := &cobra.Command{
		Use: "dashboard", Short: "Show this appliance on its own screen, and take its keys", Args: noArgs,
		Long: `Show this appliance on the terminal that this command runs on: where it is reached, the
fingerprint of its certificate, the one-time code of the first admin, how its agent is,
what runs. Keys set up the network and power it off; the bottom line names them, and
Ctrl-C ends it. Where nothing can be drawn, such as with TERM=dumb, it prints all that
whenever something changes.`,
		RunE: func(c *cobra.Command, _ []string) error {
			o := a.dashboardOptions(c.Context(), socket, files)
			err := dashboard.Run(c.Context(), o)
			if errors.Is(err, errInterrupted) {
				return nil
			}
			return err
		},
	}
	c.Flags().StringVar(&socket, "socket", strings.TrimPrefix(ownSocket, "unix:"), "the agent's Unix socket")
	c.Flags().StringArrayVar(&files, "config", nil, "file of the agent's settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	return c
}

func (a *app) dashboardOptions(ctx context.Context, socket string, files []string) dashboard.Options {
	return dashboard.Options{
		Socket: socket, Version: version, Report: report, Links: dashboard.Links, Power: dashboard.Power,
		Settings: func() (*config.Settings, error) { return config.Load(files...) },
		Shell:    func() tea.ExecCommand { return dashboard.Shell(ctx, os.Stdin) },
		Network:  network(),
		In:       os.Stdin, Out: os.Stdout, Term: os.Getenv("TERM"),
	}
}

// network is how the network of an appliance is set up.
func network() dashboard.Network {
	none := errors.New("the network of this machine is not set up here")
	return dashboard.Network{
		Now:   func() dashboard.Form { return dashboard.Form{} },
		Check: func(dashboard.Form) error { return none },
		Keep:  func(context.Context, dashboard.Form) error { return none },
	}
}
