package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/spec"
	"hyper2kvm/fixers"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
)

// order is what a runner is to do about a job: names of storages and secrets become
// paths and keys.
func (w *Worker) order(ctx context.Context, j engine.Job) (order, error) {
	s := j.Spec
	options, err := w.options(s)
	if err != nil {
		return order{}, refused("bad-input", err)
	}
	from, err := w.lend(j, &options)
	if err != nil {
		return order{}, refused("bad-input", err)
	}
	if options.Plan, err = w.given(ctx, j.Record); err != nil {
		return order{}, err
	}
	place := Folder(s)
	folder, err := w.folder(j, place)
	if err != nil {
		return order{}, refused("bad-input", err)
	}
	o := order{Task: j.Task, ID: j.ID, Name: j.Name, Folder: folder, Version: w.Version, Options: options, Limits: s.Limits, Args: j.Args,
		Hold: s.Approval == model.SpecApprovalRequired, Lease: leaseLeft(j)}
	o.Disks = from
	if o.Hooks, err = w.hooks(s.Hooks); err != nil {
		return order{}, refused("bad-hook", err)
	}
	o.HooksFolder, o.HooksUser = w.Hooks.Folder, w.Hooks.User
	if j.Plan.ApprovedBy != "" {
		o.Digest = j.Plan.Digest
	}
	if o.VM, err = w.vm(ctx, j, folder); err != nil {
		return order{}, err
	}
	for _, k := range s.Keys {
		secret, err := w.Secret(ctx, k.Secret)
		if err != nil {
			return order{}, refused("no-such-secret", err)
		}
		o.Keys = append(o.Keys, key{For: k.Device, Secrets: [][]byte{secret}})
	}
	if place.Storage != "" {
		j.Tell(engine.Update{Folder: place})
	}
	return o, nil
}

// folder is where a job works.
func (w *Worker) folder(j engine.Job, place model.Place) (string, error) {
	if place.Storage != "" {
		return w.Storages.Now().Path(place, true)
	}
	if !spec.Looks(j.Spec) {
		return "", errors.New("it has no target")
	}
	return filepath.Join(w.Scratch, j.ID), os.MkdirAll(w.Scratch, 0o700)
}

// given is the plan that a job was asked for with; nil if there is none.
func (w *Worker) given(ctx context.Context, r engine.Record) (*fixers.Plan, error) {
	if r.GivenPlan == "" {
		return nil, nil
	}
	text, err := w.Plan(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refused("no-plan", fmt.Errorf("%w: ask for the migration again", err))
	}
	if err != nil {
		return nil, err
	}
	p, err := fixers.Parse(text)
	if err != nil {
		return nil, refused("bad-input", err)
	}
	return &p, nil
}

// refused is a job that cannot be done as it is asked for.
func refused(code string, err error) error {
	const status = http.StatusUnprocessableEntity
	return &engine.Failure{Problem: model.Problem{Status: status, Code: code, Detail: err.Error()}}
}

// Folder is where a migration's results go: one that only looks has a folder of its
// own, so that the migration may follow.
func Folder(s model.Spec) model.Place {
	return model.Place{Storage: s.Target.Storage, Path: Name(s) + suffixes[s.Mode]}
}

var suffixes = map[model.Mode]string{model.ModeRehearse: "-rehearsal", model.ModePlan: "-plan", model.ModeInspect: "-inspection", model.ModeTest: "-test"}

// Name is a migration's for people, and its results'.
func Name(s model.Spec) string {
	if s.Name != "" {
		return pipeline.FolderName(s.Name + ".vmx")
	}
	if s.Source.Vsphere.VM != "" {
		return pipeline.FolderName(s.Source.Vsphere.VM + ".vmx") // a dot in a VM's name begins no extension
	}
	if list := spec.Disks(s.Source); list != nil {
		return pipeline.FolderName(list[0] + ".vmx")
	}
	return pipeline.FolderName(s.Source.Path)
}

// options is what the pipeline is asked for.
func (w *Worker) options(s model.Spec) (o pipeline.Options, err error) {
	if o.Source, err = w.source(s.Source); err != nil {
		return o, fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	for _, p := range s.AllowFolders {
		folder, err := w.Storages.Now().Path(p, false)
		if err != nil {
			return o, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		o.AllowFolders = append(o.AllowFolders, folder)
	}
	o.Engine = cmp.Or(string(s.Engine), pipeline.Auto)
	o.Shape = disk.Shape{Format: cmp.Or(string(s.Target.Format), disk.QCOW2), Compress: s.Target.Compress, ClusterSize: s.Target.ClusterSize, Preallocation: string(s.Target.Preallocation)}
	o.Target = pipeline.Overrides{CPUs: s.Target.Cpus, Memory: s.Target.Memory, Networks: s.Target.Networks}
	if o.Storages, err = w.storages(s); err != nil {
		return o, fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	o.With, o.Connect = tester(string(s.Test.With)), s.Test.Connect
	for _, g := range s.Grow {
		o.Grow = append(o.Grow, pipeline.Growth{Disk: g.Disk, Size: g.Size, More: g.More, Volume: g.Volume})
	}
	o.Skip = map[string]string{}
	switch s.Mode {
	case model.ModeRehearse:
		o.Skip["convert"] = "this is a rehearsal: the proof boots from the overlay"
	case model.ModeTest:
		const asIs = "the guest is tested as it is"
		o.Skip["plan"], o.Skip["fix"], o.Skip["convert"] = asIs, asIs, asIs
		if s.Test.Hardware == model.TestHardwareVmware {
			o.Hardware = pipeline.OnVMware
		}
	case model.ModePlan, model.ModeInspect:
		o.Until = string(s.Mode)
	}
	if s.Test.Skip != "" && o.Until == "" {
		o.Skip["test"] = s.Test.Skip
	}
	return o, nil
}

// storages are the folders that disks go to instead of the migration's; to plan one tells
// of those.
func (w *Worker) storages(s model.Spec) (pipeline.Storages, error) {
	folders, name := pipeline.Storages{}, Folder(s).Path
	if s.Mode == model.ModePlan {
		name = Name(s)
	}
	for from, to := range s.Target.Storages {
		folder, err := w.Storages.Now().Path(model.Place{Storage: to, Path: name}, true)
		if err != nil {
			return nil, err
		}
		folders[from] = folder
	}
	return folders, nil
}

// source is what the pipeline calls a source.
func (w *Worker) source(s model.Source) (string, error) {
	if s.Vsphere.Server != "" {
		return sourceVM(s.Vsphere), nil
	}
	if list := spec.Disks(s); list != nil {
		return disksName(list), nil
	}
	return w.Storages.Now().Path(model.Place{Storage: s.Storage, Path: s.Path}, false)
}

// tester is what the pipeline calls what runs the tested machine.
func tester(with string) string {
	if with == "libvirt" {
		return pipeline.WithLibvirt
	}
	return pipeline.WithQEMU
}
