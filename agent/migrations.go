package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
)

// migrations are the commands that always ask an appliance.
func (a *app) migrations() []*cobra.Command {
	all := []*cobra.Command{a.list(), a.show(), a.events(), a.approve(), a.download(), a.batch(), a.upload(), a.backup(), a.supportBundle(),
		{Use: "pause MIGRATION", Short: "Stop a migration on an appliance for a while", RunE: a.orders(model.OperationKindPause)},
		{Use: "resume MIGRATION", Short: "Go on with a migration that was paused", RunE: a.orders(model.OperationKindResume)},
		{Use: "retry MIGRATION", Short: "Try a migration that has failed again, from the stage that failed", RunE: a.orders(model.OperationKindRetry)},
		{Use: "cancel MIGRATION", Short: "Give a migration up, and take away what it has made", RunE: a.orders(model.OperationKindCancel)},
		{Use: "forget MIGRATION", Short: "Forget a migration that has ended; its results stay", RunE: a.forget},
		{Use: "storages", Short: "List where an appliance's disks lie and where results go", Args: noArgs, RunE: a.storages},
		{Use: "appliances", Short: "List an appliance and its fellows", Args: noArgs, RunE: a.appliances},
	}
	for _, c := range all {
		c.Annotations = map[string]string{asks: "always"}
		if c.Args == nil {
			c.Args = oneArg("MIGRATION")
		}
		c.Long = strings.TrimSpace(c.Long + "\n\nIt asks the appliance of --appliance, or the agent of this machine by its socket.")
	}
	return all
}

// table prints rows of columns. What an appliance says may have come from a guest.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(pipeline.Line(row[i]), "\t", " ")
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func (a *app) list() *cobra.Command {
	var states []string
	var name, batch, output string
	c := &cobra.Command{
		Use: "list", Short: "List an appliance's migrations, the newest first", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			p := model.ListMigrationsParams{Name: name, Batch: batch}
			for _, s := range states {
				p.State = append(p.State, model.State(s))
			}
			return a.listed(c.Context(), conn, p, output)
		},
	}
	c.Flags().StringArrayVar(&states, "state", nil, "only those in this state: queued, running, planned, paused, done, failed or cancelled (may be repeated)")
	c.Flags().StringVar(&name, "name", "", "only those whose name contains this")
	c.Flags().StringVar(&batch, "batch", "", "only those of this batch")
	c.Flags().StringVar(&output, "output", "text", "text or json")
	return c
}

func (a *app) listed(ctx context.Context, c *client.Conn, p model.ListMigrationsParams, output string) error {
	all := []model.Migration{}
	rows := [][]string{{"ID", "NAME", "STATE", "", "AT"}}
	for m, err := range c.Migrations(ctx, p) {
		if err != nil {
			return err
		}
		all = append(all, m)
		rows = append(rows, []string{m.ID, m.Name, string(m.State), short(m), m.Appliance})
	}
	if output == "json" {
		return a.json(all)
	}
	return a.table(rows)
}

// short is what there is to say of a migration in few words.
func short(m model.Migration) string {
	switch {
	case m.Problem.Code != "":
		return m.Problem.Code
	case m.Verdict != "":
		return string(m.Verdict)
	case m.Progress.Total > 0:
		return fmt.Sprintf("%s %.0f%%", stageOf(m), 100*float64(m.Progress.Virtual)/float64(m.Progress.Total))
	case m.State == model.StateRunning:
		return stageOf(m)
	}
	return m.Why
}

// stageOf is the stage that a migration is in.
func stageOf(m model.Migration) string {
	for _, s := range m.Stages {
		if s.State == model.StageStateRunning {
			return strings.ToUpper(string(s.Name))
		}
	}
	return ""
}

func (a *app) show() *cobra.Command {
	var output string
	var follow bool
	c := &cobra.Command{
		Use: "show MIGRATION", Short: "Tell how a migration on an appliance stands",
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			m, err := found(c.Context(), conn, args[0])
			switch {
			case err != nil:
				return err
			case follow:
				return a.followed(c.Context(), conn, m)
			case output == "json":
				return a.json(m)
			}
			return a.table(about(m))
		},
	}
	c.Flags().StringVar(&output, "output", "text", "text or json")
	c.Flags().BoolVar(&follow, "follow", false, "wait for its end, and sum up what came of it")
	return c
}

func found(ctx context.Context, c *client.Conn, text string) (model.Migration, error) {
	id, err := find(ctx, c, text)
	if err != nil {
		return model.Migration{}, err
	}
	return c.Migration(ctx, id)
}

// followed waits for the end of what a migration is about last.
func (a *app) followed(ctx context.Context, c *client.Conn, m model.Migration) error {
	op := m.Operations[len(m.Operations)-1]
	for _, o := range m.Operations {
		if !o.Done {
			op = o
			break
		}
	}
	op, err := a.await(ctx, c, op)
	if _, ok := err.(detached); ok {
		return err
	}
	return a.sumUpRemote(ctx, c, op.Migration, err)
}

// about is what there is to say of a migration.
func about(m model.Migration) [][]string {
	rows := [][]string{{"migration", m.ID}, {"name", m.Name}, {"state", strings.TrimSpace(string(m.State) + " " + string(m.Verdict))}, {"source", sourceText(m.Spec.Source)}}
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	add("results", strings.TrimSuffix(m.Folder.Storage+":"+m.Folder.Path, ":"))
	add("because", m.Why)
	add("at", m.Appliance)
	if m.Problem.Code != "" {
		add("problem", (&client.Refusal{Problem: m.Problem}).Error())
	}
	if p := m.Plan; p.Digest != "" {
		add("plan", strings.TrimSuffix(fmt.Sprintf("%d changes, %d blockers, %d warnings; approved by %s", p.Changes, p.Blockers, p.Warnings, p.ApprovedBy), "; approved by "))
		add("", p.Digest)
	}
	for _, s := range m.Stages {
		add(string(s.Name), strings.TrimSpace(string(s.State)+" "+s.Reason))
	}
	for _, o := range m.Operations {
		state := "not done"
		if o.Done {
			state = "done " + o.Problem.Code
		}
		add("operation", strings.TrimSpace(fmt.Sprintf("%s %s by %s: %s", o.Asked.Format(time.RFC3339), o.Kind, o.By, state)))
	}
	return rows
}

func (a *app) approve() *cobra.Command {
	var digest string
	c := &cobra.Command{
		Use: "approve MIGRATION", Short: "Approve the plan that a migration waits with",
		Long: `Approve the plan that a migration waits with. With --digest exactly that plan is
approved, as "hyper2kvm show" tells it; without it the one that is there now.`,
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			m, err := found(c.Context(), conn, args[0])
			if err != nil {
				return err
			}
			if digest == "" {
				digest = m.Plan.Digest
			}
			if digest == "" {
				return fmt.Errorf("%w: %s has no plan yet", errUsage, m.ID)
			}
			_, err = conn.Order(c.Context(), m.ID, client.Order{Kind: model.OperationKindApprove, Digest: digest})
			return err
		},
	}
	c.Flags().StringVar(&digest, "digest", "", "of the plan that was reviewed")
	return c
}

// orders asks for something that is done when the appliance says so.
func (a *app) orders(kind model.OperationKind) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		conn, err := a.dial()
		if err != nil {
			return err
		}
		id, err := find(c.Context(), conn, args[0])
		if err != nil {
			return err
		}
		op, err := conn.Order(c.Context(), id, client.Order{Kind: kind})
		if err != nil || kind == model.OperationKindRetry { // which ends when the migration does
			return err
		}
		op, err = conn.Await(c.Context(), op, nil)
		if err == nil && op.Problem.Code != "" {
			err = &client.Refusal{Problem: op.Problem}
		}
		return err
	}
}

func (a *app) forget(c *cobra.Command, args []string) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	id, err := find(c.Context(), conn, args[0])
	if err != nil {
		return err
	}
	return conn.Forget(c.Context(), id)
}
