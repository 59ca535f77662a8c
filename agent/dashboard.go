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

func (a *app) dashboard() *cobra.Command {
	var files []string
	var socket, root string
	c := &cobra.Command{
		Use: "dashboard", Short: "Show this appliance on its own screen, and take its keys", Args: noArgs,
		Long: `Show this appliance on the terminal that this command runs on: where it is reached, the
fingerprint of its certificate, the one-time code of the first admin, how its agent is,
what runs. Keys set up the network and power it off; the bottom line names them, and
Ctrl-C ends it. Where nothing can be drawn, such as with TERM=dumb, it prints all that
whenever something changes.`,
		RunE: func(c *cobra.Command, _ []string) error {
			o := a.dashboardOptions(c.Context(), socket, root, files)
			err := dashboard.Run(c.Context(), o)
			if errors.Is(err, errInterrupted) {
				return nil
			}
			return err
		},
	}
	c.Flags().StringVar(&socket, "socket", strings.TrimPrefix(ownSocket, "unix:"), "the agent's Unix socket")
	c.Flags().StringArrayVar(&files, "config", nil, "file of the agent's settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	c.Flags().StringVar(&root, "root", "/", "folder below which first boot reads and writes all")
	return c
}

func (a *app) dashboardOptions(ctx context.Context, socket, root string, files []string) dashboard.Options {
	return dashboard.Options{
		Socket: socket, Version: version, Root: root, Links: dashboard.Links, Power: dashboard.Power,
		Settings: func() (*config.Settings, error) { return config.Load(files...) },
		Shell:    func() tea.ExecCommand { return dashboard.Shell(ctx, os.Stdin) },
		Network:  applianceNetwork{root}.form(),
		In:       os.Stdin, Out: os.Stdout, Term: os.Getenv("TERM"),
	}
}
