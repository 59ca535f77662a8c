package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/serve"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/vsphere"
)

func (a *app) inspect() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "inspect SOURCE", Short: "Tell what is installed on a guest's disks", Args: oneArg("SOURCE"),
		RunE: func(c *cobra.Command, args []string) error {
			if a.remote() {
				return a.inspectThere(c.Context(), f, args[0])
			}
			return a.until(c.Context(), f, "inspect", args[0], func(r *pipeline.Run) error {
				if f.output == "json" {
					return a.json(r.Facts)
				}
				return a.print(pipeline.FactsText(*r.Facts, r.Machine) + pipeline.ChecksText(r.Checks))
			})
		},
	}
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addOutput(c)
	f.addThere(c)
	c.Flags().StringVar(&f.remote.name, "name", "", "with --appliance: the name to work under (default: the source's)")
	f.vsphere.addReading(c)
	return c
}

func (a *app) plan() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "plan SOURCE", Short: "Show every change that a migration would make, as a diff", Args: oneArg("SOURCE"),
		Long: `Work out every change that a migration would make to the guest, touching nothing,
and what the target has by the options: its name, its hardware, the network of each
network card, the folder of each disk. As JSON it can be reviewed, kept, and handed to
"hyper2kvm apply", which takes the changes from it, and the target from its own options.`,
		RunE: func(c *cobra.Command, args []string) error {
			if a.remote() {
				return a.planThere(c.Context(), f, args[0])
			}
			return a.until(c.Context(), f, "plan", args[0], func(r *pipeline.Run) error { return a.showPlan(f, r) })
		},
	}
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addGrow(c)
	f.addMaps(c)
	f.addOutput(c)
	f.addThere(c)
	f.addName(c)
	f.vsphere.addReading(c)
	return c
}

// showPlan prints a plan. One that is blocked is an error.
func (a *app) showPlan(f flags, r *pipeline.Run) error {
	if f.output == "json" {
		return errors.Join(a.json(r.Plan), r.Blocker())
	}
	return errors.Join(a.print(pipeline.PlanText(*r.Plan)), r.Blocker())
}

// until runs the first stages in a folder that is thrown away.
func (a *app) until(ctx context.Context, f flags, stage, path string, show func(*pipeline.Run) error) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	grow, err := f.growth()
	if err != nil {
		return err
	}
	recorded, name, err := named(path)
	if err != nil {
		return err
	}
	allowed, err := f.allowed()
	if err != nil {
		return err
	}
	storages, err := f.elsewhere(f.called(name))
	if err != nil {
		return err
	}
	keys, err := f.keyring(a)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "hyper2kvm-"+stage+"-*")
	if err != nil {
		return err
	}
	folder := filepath.Join(temporary, name)
	defer func() { err = errors.Join(err, discard(temporary, folder)) }()
	origin, err := a.origin(ctx, f, recorded, folder, true)
	if err != nil {
		return err
	}
	r, err := pipeline.Open(pipeline.Config{Folder: folder, Version: version, Log: a.log(), Keys: keys, Origin: origin, Name: f.called(name)},
		pipeline.Options{Source: recorded, Engine: f.engine, Until: stage, AllowFolders: allowed, Grow: grow, Target: f.overrides, Storages: storages})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := ifFull(folder, r.Go(ctx)); err != nil {
		return err
	}
	return show(r)
}

// discard removes what was made to look at a guest, unless it says what is still to be
// taken back in vSphere.
func discard(temporary, folder string) error {
	owes, err := vsphere.Owes(folder)
	if err != nil || owes {
		return err
	}
	return os.RemoveAll(temporary)
}

func (a *app) json(v any) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (a *app) jsonLine(v any) error { return json.NewEncoder(a.stdout).Encode(v) }

func (a *app) print(text string) error {
	_, err := fmt.Fprint(a.stdout, text)
	return err
}

func (a *app) probe() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "probe", Short: "Tell by trying what this host can run virtual machines with", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if a.remote() {
				return a.probeThere(c, f)
			}
			choice, err := accel.Try(c.Context())
			if err != nil {
				return err
			}
			engines, missing := pipeline.Engines(c.Context()), serve.Missing()
			if f.output == "json" {
				return a.json(map[string]any{"accelerator": choice, "engines": engines, "missing": missing})
			}
			var b strings.Builder
			fmt.Fprintf(&b, "%-14s%s\n%-14s%s\n%-14s%s\n", "accelerator", choice.Name, "because", choice.Reason, "tried for", round(choice.Took))
			for _, e := range engines {
				fmt.Fprintf(&b, "%-14s%s: %s\n", "engine", e.Name, e.Reason)
			}
			for _, m := range missing {
				fmt.Fprintf(&b, "%-14s%s\n", "missing", m)
			}
			return a.print(b.String())
		},
	}
	f.addOutput(c)
	return c
}
