package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/problem"
	"hyper2kvm/fixers"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/pipeline/vsphere"
)

func (a *app) migrate() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "migrate SOURCE", Short: "Convert a guest and prove that the result boots", Args: oneArg("SOURCE"),
		Long: `Convert a guest to KVM and prove that the result boots.

The result is a folder named after the source: the converted disks, the libvirt
XML, the report and the screenshot of the proof. A run that was interrupted goes
on where it was when the same command is given again.`,
		RunE: func(c *cobra.Command, args []string) error {
			if a.remote() {
				return a.migrateThere(c.Context(), f, model.ModeMigrate, args[0], nil)
			}
			return a.inFolder(c.Context(), f, "", pipeline.Options{Source: args[0], Engine: f.engine, Skip: f.skipped()})
		},
	}
	f.addTarget(c)
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addGrow(c)
	f.addTester(c, "test-with")
	f.addRemote(c)
	f.vsphere.addReading(c)
	f.vsphere.addMoving(c)
	f.addNoTest(c)
	return c
}

func (a *app) rehearse() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "rehearse SOURCE", Short: "Prove that a guest will boot on KVM before anything is copied", Args: oneArg("SOURCE"),
		Long: `Do everything but CONVERT: the fixed guest boots from its overlay, reading from
the source only the blocks that it touches. Nothing is left but the report and
the evidence, in a folder named after the source with "-rehearsal" behind it. It boots
with the hardware and the networks that the options of a migration give the target.`,
		RunE: func(c *cobra.Command, args []string) error {
			if a.remote() {
				return a.migrateThere(c.Context(), f, model.ModeRehearse, args[0], nil)
			}
			return a.inFolder(c.Context(), f, "-rehearsal", pipeline.Options{Source: args[0], Engine: f.engine,
				Skip: map[string]string{"convert": "this is a rehearsal: the proof boots from the overlay"}})
		},
	}
	c.Flags().StringVar(&f.to, "to", ".", "folder in which the rehearsal's own folder is made")
	f.addMaps(c)
	f.addRemote(c)
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addGrow(c)
	f.addTester(c, "test-with")
	f.vsphere.addReading(c)
	return c
}

func (a *app) apply() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "apply SOURCE --plan FILE", Short: "Convert a guest with a plan that was approved", Args: oneArg("SOURCE"),
		Long: `Convert a guest, making exactly the changes of a plan that "hyper2kvm plan
--output json" wrote. A guest that changed since is a conflict, and is left alone.
Disks grow as the plan says; --grow may only say the same.`,
		RunE: func(c *cobra.Command, args []string) error {
			text, plan, err := readPlan(f.plan)
			if err != nil {
				return err
			}
			if a.remote() {
				return a.migrateThere(c.Context(), f, model.ModeMigrate, args[0], text)
			}
			return a.inFolder(c.Context(), f, "", pipeline.Options{Source: args[0], Engine: f.engine, Plan: &plan, Skip: f.skipped()})
		},
	}
	f.addTarget(c)
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addGrow(c)
	f.addTester(c, "test-with")
	f.vsphere.addReading(c)
	f.vsphere.addMoving(c)
	f.addRemote(c)
	f.addNoTest(c)
	c.Flags().StringVar(&f.plan, "plan", "", "file with the plan as JSON")
	return c
}

// readPlan reads a plan, and returns it as it is written too.
func readPlan(path string) ([]byte, fixers.Plan, error) {
	if path == "" {
		return nil, fixers.Plan{}, fmt.Errorf("%w: --plan FILE is missing", errUsage)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fixers.Plan{}, fmt.Errorf("%w: %w", problem.ErrPlan, err)
	}
	plan, err := fixers.Parse(text)
	if err != nil {
		return nil, plan, fmt.Errorf("%w: %s %w; make one with \"hyper2kvm plan --output json\"", problem.ErrPlan, path, err)
	}
	return text, plan, nil
}

// inFolder runs a migration whose folder stays, and sums up what came of it.
// What is no migration has a folder of its own, by its suffix, so that the
// migration may follow.
func (a *app) inFolder(ctx context.Context, f flags, suffix string, o pipeline.Options) error {
	if err := f.check(); err != nil {
		return err
	}
	grow, err := f.growth()
	if err != nil {
		return err
	}
	o.Grow = grow
	var name string
	if o.Source, name, err = named(o.Source); err != nil {
		return err
	}
	name = f.called(name)
	if o.AllowFolders, err = f.allowed(); err != nil {
		return err
	}
	if o.Shape, err = f.targetShape(); err != nil {
		return err
	}
	limits, err := f.speed()
	if err != nil {
		return err
	}
	if o.Devices, err = f.targets(); err != nil {
		return err
	}
	for _, path := range o.Devices {
		if strings.HasPrefix(filepath.Base(path), diskScheme) {
			return fmt.Errorf("%w: --disk-to with disk:ID is for --appliance: here write the disk's path, as hyper2kvm disks shows it", errUsage)
		}
	}
	o.Overwrite = f.overwrite
	o.With, o.Connect = f.tester()
	o.Target = f.overrides
	if o.Storages, err = f.elsewhere(name + suffix); err != nil {
		return err
	}
	folder, err := filepath.Abs(filepath.Join(f.to, name+suffix))
	if err != nil {
		return err
	}
	keys, err := f.keyring(a)
	if err != nil {
		return err
	}
	origin, err := a.origin(ctx, f, o.Source, folder, o.Skip["convert"] != "")
	if err != nil {
		return err
	}
	_, before := os.Lstat(folder)
	r, err := pipeline.Open(pipeline.Config{Folder: folder, Name: name, Version: version, Log: a.log(), Tell: newProgress(a.stderr).tell, Keys: keys, Limits: limits, Origin: origin}, o)
	if errors.Is(err, transfer.ErrTarget) {
		return ifFull(f.to, fmt.Errorf("%w with --to: %w", problem.ErrFolder, err))
	}
	if err != nil {
		return ifFull(folder, err)
	}
	err = ifFull(folder, r.Go(ctx))
	if errors.Is(before, fs.ErrNotExist) && nothingBegun(r, err) {
		return errors.Join(err, r.Close(), discard(folder, folder)) // nothing in it is worth keeping
	}
	err = errors.Join(err, r.WriteReport(context.WithoutCancel(ctx)))
	a.summary(r, err)
	return errors.Join(err, r.Close())
}

// nothingBegun tells of a run that ended before it had a source to work on.
func nothingBegun(r *pipeline.Run, err error) bool {
	switch r.Stage("fetch").State {
	case pipeline.Pending:
		return true
	case pipeline.Failed:
		return exitStatus(err) == exitBadInput
	}
	return false
}

// ifFull names the cause of an error that comes of a full storage: a guest's
// file system on an overlay that cannot grow fails with words of its own.
func ifFull(folder string, err error) error {
	if err == nil {
		return nil
	}
	var s unix.Statfs_t
	const little = 1 << 20 // bytes; less than any disk's tables need
	if unix.Statfs(folder, &s) != nil || int64(s.Bavail)*s.Bsize >= little {
		return err
	}
	return fmt.Errorf("%w: make room at %s and give the command again, or choose another folder: %w", problem.ErrFull, folder, err)
}

// named is a source as it is recorded, and what its folder and its domain are called.
func named(text string) (recorded, name string, err error) {
	if ids := diskIDs(text); ids != nil {
		return text, pipeline.FolderName(ids[0] + ".vmx"), nil // a dot in an ID begins no extension
	}
	if !vsphere.Is(text) {
		recorded, err = existing(text)
		return recorded, pipeline.FolderName(recorded), err
	}
	_, _, vm, err := vsphere.Parse(text)
	return text, pipeline.FolderName(vm + ".vmx"), err // a dot in a VM's name begins no extension
}

// origin is where a source's guest comes from; nil for files.
func (a *app) origin(ctx context.Context, f flags, text, folder string, live bool) (pipeline.Origin, error) {
	if diskIDs(text) != nil {
		return a.attachedDisks(ctx, text, folder)
	}
	if !vsphere.Is(text) {
		return nil, nil
	}
	limits, err := f.speed()
	if err != nil {
		return nil, err
	}
	return f.vsphere.origin(a, text, folder, live, limits)
}

// existing is the absolute path of a source that is there.
func existing(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s does not exist; give a VMX file or a disk", source.ErrBadInput, absolute)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	return absolute, nil
}
