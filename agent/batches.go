package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/batch"
)

// batch is the command for many migrations at once.
func (a *app) batch() *cobra.Command {
	c := &cobra.Command{
		Use: "batch", Short: "Submit many migrations to an appliance, and look after them",
		Long: `Submit many migrations to an appliance at once, and look after them. What files say
of them is told by "hyper2kvm config schema migrations"; besides defaults, migrations and
overrides there are atOnce, schedule and groups.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: batch has no command %q: see hyper2kvm batch --help", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.submit(), a.listBatches(), a.showBatch(),
		a.orderBatch("pause", "Stop all migrations of a batch for a while"),
		a.orderBatch("resume", "Go on with all that are paused"),
		a.orderBatch("retry", "Try all that have failed again"),
		a.orderBatch("cancel", "Give all up that are not done"),
		a.ofBatch("forget BATCH", "Forget a batch that has ended, with its migrations; the results stay", func(c *cobra.Command, conn *client.Conn, name string) error {
			return conn.ForgetBatch(c.Context(), name)
		}))
	return c
}

func (a *app) submit() *cobra.Command {
	var name string
	var atOnce int
	var validate bool
	c := &cobra.Command{
		Use:   "submit FILE...",
		Short: "Begin all migrations that files ask for",
		Long: `Begin all migrations that files ask for. The same files may be submitted again under
the same name: what is there already is not begun once more.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%w: submit takes one FILE or more: see hyper2kvm batch submit --help", errUsage)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			r, err := batchRequest(name, args)
			if err != nil {
				return err
			}
			if c.Flags().Changed("at-once") {
				r.AtOnce = atOnce
			}
			conn, err := a.dial()
			if err != nil {
				return err
			}
			b, err := conn.SubmitBatch(c.Context(), r, validate)
			if err != nil {
				return err
			}
			return a.table(aboutBatch(b))
		},
	}
	c.Flags().StringVar(&name, "name", "", "the batch's name (default: what a file says)")
	c.Flags().IntVar(&atOnce, "at-once", 0, "how many of them run at once (default: what a file says)")
	c.Flags().BoolVar(&validate, "validate", false, "only tell what would be begun")
	return c
}

// batchRequest is what files ask for, whole: the appliance gets what was checked here.
func batchRequest(name string, files []string) (r model.BatchRequest, err error) {
	b, err := batch.Load(name, files...)
	if err != nil {
		return r, err
	}
	if b.Name == "" {
		return r, fmt.Errorf("%w: the batch has no name: give --name", errUsage)
	}
	r = model.BatchRequest{Name: b.Name, AtOnce: b.AtOnce, Groups: b.Groups}
	for _, m := range b.Migrations {
		entry, err := fields(m.Spec)
		if err != nil {
			return r, err
		}
		entry["id"] = m.ID
		r.Migrations = append(r.Migrations, entry)
	}
	return r, nil
}

func fields(s model.Spec) (entry map[string]any, err error) {
	text, err := json.Marshal(s)
	return entry, errors.Join(err, json.Unmarshal(text, &entry))
}

func (a *app) listBatches() *cobra.Command {
	return &cobra.Command{
		Use: "list", Args: noArgs,
		Short: "List all batches, the newest first",
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			list, err := conn.Batches(c.Context())
			if err != nil {
				return err
			}
			rows := [][]string{{"NAME", "MIGRATIONS", "BY"}}
			for _, b := range list {
				rows = append(rows, []string{b.Name, counted(b), b.By})
			}
			return a.table(rows)
		},
	}
}

func (a *app) showBatch() *cobra.Command {
	var output string
	c := a.ofBatch("show BATCH", "Tell how a batch stands, with its migrations in their expected order", func(c *cobra.Command, conn *client.Conn, name string) error {
		b, err := conn.Batch(c.Context(), name)
		if err != nil {
			return err
		}
		if output == "json" {
			return a.json(b)
		}
		return a.table(aboutBatch(b))
	})
	c.Flags().StringVar(&output, "output", "text", "text or json")
	return c
}

func (a *app) orderBatch(order, short string) *cobra.Command {
	return a.ofBatch(order+" BATCH", short, func(c *cobra.Command, conn *client.Conn, name string) error {
		b, err := conn.OrderBatch(c.Context(), name, model.BatchOrder(order))
		if err != nil {
			return err
		}
		return a.print(b.Name + ": " + counted(b) + "\n")
	})
}

// ofBatch is a command for one batch.
func (a *app) ofBatch(use, short string, do func(*cobra.Command, *client.Conn, string) error) *cobra.Command {
	return &cobra.Command{Use: use, Args: oneArg("BATCH"), Short: short, RunE: func(c *cobra.Command, args []string) error {
		conn, err := a.dial()
		if err != nil {
			return err
		}
		return do(c, conn, args[0])
	}}
}

// states are those of migrations, in the order in which they are counted.
var states = []model.State{model.StateRunning, model.StateQueued, model.StatePlanned, model.StatePaused, model.StateFailed, model.StateCancelled, model.StateDone}

func counted(b model.Batch) string {
	parts, there := []string{}, 0
	for _, s := range states {
		if n := b.Counts[string(s)]; n > 0 {
			there += n
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if left := b.Total - there; left > 0 {
		word := "not begun"
		if b.Submitted {
			word = "forgotten"
		}
		parts = append(parts, fmt.Sprintf("%d %s", left, word))
	}
	return strings.Join(parts, ", ")
}

func aboutBatch(b model.Batch) [][]string {
	rows := [][]string{{b.Name, counted(b)}}
	for _, m := range b.Migrations {
		what := m.Problem
		if what == "" {
			what = string(m.Verdict)
		}
		if what == "" {
			what = m.Why
		}
		rows = append(rows, []string{m.ID, m.Name, string(m.State), what})
	}
	return rows
}
