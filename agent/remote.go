package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/transfer"
)

// migrateThere has an appliance migrate or rehearse, and sums up what came of it.
// With a plan it makes exactly the changes of that.
func (a *app) migrateThere(ctx context.Context, f flags, mode model.Mode, source string, plan json.RawMessage) error {
	c, op, err := a.beginThere(ctx, f, mode, source, plan)
	if err != nil {
		return err
	}
	if f.remote.detach {
		return a.print(op.Migration + "\n")
	}
	fmt.Fprintln(a.stderr, op.Migration)
	op, err = a.await(ctx, c, op)
	if errors.Is(err, errInterrupted) {
		return err
	}
	return a.sumUpRemote(ctx, c, op.Migration, err)
}

func (a *app) beginThere(ctx context.Context, f flags, mode model.Mode, source string, plan json.RawMessage) (*client.Conn, model.Operation, error) {
	if err := f.check(); err != nil {
		return nil, model.Operation{}, err
	}
	s, err := f.spec(mode, source)
	if err != nil {
		return nil, model.Operation{}, err
	}
	c, err := a.dial()
	if err != nil {
		return nil, model.Operation{}, err
	}
	op, err := c.Begin(ctx, model.MigrationRequest{Spec: s, Plan: plan})
	return c, op, err
}

// lookThere has an appliance look at a guest, and leaves nothing of that there.
func (a *app) lookThere(ctx context.Context, f flags, mode model.Mode, source string, show func(*client.Conn, string) error) error {
	c, op, err := a.beginThere(ctx, f, mode, source, nil)
	if err != nil {
		return err
	}
	op, err = c.Await(ctx, op, nil)
	switch {
	case errors.Is(err, errInterrupted):
		return detached{op.Migration}
	case err != nil:
		return err
	case op.Problem.Code != "":
		return errors.Join(&client.Refusal{Problem: op.Problem}, clearThere(ctx, c, op.Migration))
	}
	return errors.Join(show(c, op.Migration), c.Forget(ctx, op.Migration))
}

// clearThere takes away what a look that failed has left.
func clearThere(ctx context.Context, c *client.Conn, id string) error {
	op, err := c.Order(ctx, id, client.Order{Kind: model.OperationKindCancel})
	if err != nil {
		return err
	}
	if _, err := c.Await(ctx, op, nil); err != nil {
		return err
	}
	return c.Forget(ctx, id)
}

func (a *app) inspectThere(ctx context.Context, f flags, source string) error {
	return a.lookThere(ctx, f, model.ModeInspect, source, func(c *client.Conn, id string) error {
		var found struct {
			Machine machine.Machine
			Facts   inspect.Facts
			Checks  pipeline.Checks
		}
		text, err := c.Facts(ctx, id)
		if err := errors.Join(err, read(text, &found)); err != nil {
			return err
		}
		if f.output == "json" {
			return a.json(found.Facts)
		}
		return a.print(pipeline.FactsText(found.Facts, found.Machine) + pipeline.ChecksText(found.Checks))
	})
}

func (a *app) planThere(ctx context.Context, f flags, source string) error {
	return a.lookThere(ctx, f, model.ModePlan, source, func(c *client.Conn, id string) error {
		var p fixers.Plan
		text, err := c.Plan(ctx, id)
		if err := errors.Join(err, read(text, &p)); err != nil {
			return err
		}
		return a.showPlan(f, &pipeline.Run{Migration: &pipeline.Migration{Plan: &p}})
	})
}

// read takes JSON over, if there is any.
func read(text json.RawMessage, v any) error {
	if len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, v)
}

// further has an appliance do something with a migration that is done.
func (a *app) further(ctx context.Context, text string, o client.Order) (*client.Conn, model.Operation, error) {
	c, err := a.dial()
	if err != nil {
		return nil, model.Operation{}, err
	}
	id, err := find(ctx, c, text)
	if err != nil {
		return nil, model.Operation{}, err
	}
	op, err := c.Order(ctx, id, o)
	if err != nil {
		return nil, op, err
	}
	op, err = a.await(ctx, c, op)
	return c, op, err
}

func (a *app) testThere(ctx context.Context, f flags, text string) error {
	if err := f.check(); err != nil {
		return err
	}
	c, op, err := a.further(ctx, text, client.Order{Kind: model.OperationKindTest, Test: model.TestRequest{With: model.TestRequestWith(f.with), Connect: f.connect}})
	if c == nil || errors.Is(err, errInterrupted) {
		return err
	}
	return a.sumUpRemote(ctx, c, op.Migration, err)
}

func (a *app) undoThere(ctx context.Context, text string) error {
	c, op, err := a.further(ctx, text, client.Order{Kind: model.OperationKindUndo})
	if err != nil {
		return err
	}
	v, err := c.Migration(ctx, op.Migration)
	if err != nil {
		return err
	}
	m, err := recorded(ctx, c, v)
	if err != nil {
		return err
	}
	return a.print(undone(&m))
}

func (a *app) verifyThere(ctx context.Context, f flags, text string, source bool) error {
	if err := f.check(); err != nil {
		return err
	}
	c, op, err := a.further(ctx, text, client.Order{Kind: model.OperationKindVerify, AgainstSource: source})
	if c == nil {
		return err
	}
	var list []pipeline.Verified
	for _, v := range op.Verified {
		list = append(list, pipeline.Verified{Path: v.Path, Verified: transfer.Verified{Size: v.Size, Read: v.Read}, Differs: v.Differs})
	}
	return errors.Join(err, a.verified(f.output, list))
}

// probeThere is what an appliance can run virtual machines with.
func (a *app) probeThere(c *cobra.Command, f flags) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	h, err := conn.Host(c.Context())
	if err != nil {
		return err
	}
	if f.output == "json" {
		return a.json(h)
	}
	rows := [][]string{{"accelerator", string(h.Accelerator)}, {"because", h.Reason}}
	for _, e := range h.Engines {
		rows = append(rows, []string{"engine", e.Name + ": " + e.Reason})
	}
	for _, m := range h.Missing {
		rows = append(rows, []string{"missing", m})
	}
	return a.table(rows)
}
