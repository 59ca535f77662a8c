package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/serve"
)

func (a *app) serve() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the agent: the HTTP API, and the migrations that are asked for through it", Args: noArgs,
		Long: `Run the agent until it is stopped: the HTTP API, and the migrations that are asked
for through it. Migrations that run are stopped with it, and go on when it runs
again.

Settings are YAML files: see hyper2kvm config --help. The API describes itself at
/reference.`,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := config.Load(files...)
			if err != nil {
				return err
			}
			err = serve.Run(c.Context(), s, version, a.stdout, a.agentLog(s.Log.Level))
			if errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled) && c.Context().Err() != nil { // that is how it ends, also while it begins
				return nil
			}
			return err
		},
	}
	c.Flags().StringArrayVar(&files, "config", nil, "file of settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	return c
}

// agentLog is the agent's log: to the journal where that is what standard error goes to.
func (a *app) agentLog(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil { // the settings' schema knows no other
		l = slog.LevelInfo
	}
	if a.verbose {
		l = slog.LevelDebug
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		return slog.New(serve.NewJournal(l))
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: l}))
}
