package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/update"
)

// confirm is what a version does that is on trial: it ends that, or fails.
func (a *app) confirm() *cobra.Command {
	var within time.Duration
	c := &cobra.Command{
		Use: "confirm", Args: noArgs, Hidden: true,
		Short: "End the trial of the version that runs, when its agent is ready",
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			if err := awaitReady(c.Context(), conn, within); err != nil {
				return fmt.Errorf("version %s is not healthy: its agent was not ready within %v: %w", version, within, err)
			}
			m, err := update.ThisMachine()
			if err != nil {
				return err
			}
			if err := m.Confirm(c.Context()); err != nil {
				return err
			}
			return a.print("version " + version + " is healthy, and is kept\n")
		},
	}
	c.Flags().DurationVar(&within, "within", 5*time.Minute, "how long the agent may take to get ready")
	return c
}

// awaitReady asks the agent again and again, until it is ready.
func awaitReady(ctx context.Context, conn *client.Conn, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := conn.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}
