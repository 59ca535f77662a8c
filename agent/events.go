package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
)

func (a *app) events() *cobra.Command {
	var output string
	var from int64
	c := &cobra.Command{
		Use: "events [MIGRATION]", Short: "Print what happens on an appliance, until it is interrupted",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%w: %q is one argument too many", errUsage, args[1])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := a.dial()
			if err != nil {
				return err
			}
			var id string
			if len(args) > 0 {
				if id, err = find(c.Context(), conn, args[0]); err != nil {
					return err
				}
			}
			for e, err := range conn.Events(c.Context(), id, from) {
				if err == nil {
					err = a.event(e, output)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&output, "output", "text", "text or json, an event a line")
	c.Flags().Int64Var(&from, "from", client.Now, "begin after the event of this number; 0 is the oldest that is kept")
	return c
}

func (a *app) event(e model.Event, output string) error {
	if output == "json" {
		return a.jsonLine(e)
	}
	what := e.Text
	switch {
	case e.Problem.Code != "":
		what = (&client.Refusal{Problem: e.Problem}).Error()
	case e.Progress.Total > 0:
		what = describe(transferOf(e.Progress), 0, 0)
	case e.Stage.Name != "":
		what = strings.ToUpper(string(e.Stage.Name)) + " " + string(e.Stage.State)
	case e.Verdict != "":
		what = string(e.Verdict)
	}
	return a.print(pipeline.Line(strings.TrimSpace(fmt.Sprintf("%s  %s  %-9s %s", e.Time.Format(time.RFC3339), e.Migration, e.State, what))) + "\n")
}
