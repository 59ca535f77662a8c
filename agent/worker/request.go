package worker

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
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
	place := Folder(s)
	folder, err := w.Storages.Path(place, true)
	if err != nil {
		return order{}, refused("bad-input", err)
	}
	o := order{Task: j.Task, ID: j.ID, Name: j.Name, Folder: folder, Version: w.Version, Options: options, Limits: s.Limits, Args: j.Args,
		Hold: s.Approval == model.SpecApprovalRequired, Lease: leaseLeft(j)}
	if o.Hooks, err = w.hooks(s.Hooks); err != nil {
		return order{}, refused("bad-hook", err)
	}
	o.HooksFolder, o.HooksUser = w.Hooks.Folder, w.Hooks.User
	if j.Plan.ApprovedBy != "" {
		o.Digest = j.Plan.Digest
	}
	for _, k := range s.Keys {
		secret, err := w.Secret(ctx, k.Secret)
		if err != nil {
			return order{}, refused("no-such-secret", err)
		}
		o.Keys = append(o.Keys, key{For: k.Device, Secrets: [][]byte{secret}})
	}
	j.Tell(engine.Update{Folder: place})
	return o, nil
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

var suffixes = map[model.Mode]string{model.ModeRehearse: "-rehearsal", model.ModePlan: "-plan", model.ModeInspect: "-inspection"}

// Name is a migration's for people, and its results'.
func Name(s model.Spec) string {
	if s.Name != "" {
		return pipeline.FolderName(s.Name + ".vmx")
	}
	return pipeline.FolderName(s.Source.Path)
}

// options is what the pipeline is asked for.
func (w *Worker) options(s model.Spec) (o pipeline.Options, err error) {
	if o.Source, err = w.Storages.Path(s.Source, false); err != nil {
		return o, fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	for _, p := range s.AllowFolders {
		folder, err := w.Storages.Path(p, false)
		if err != nil {
			return o, fmt.Errorf("%w: %w", source.ErrBadInput, err)
		}
		o.AllowFolders = append(o.AllowFolders, folder)
	}
	o.Engine = cmp.Or(string(s.Engine), pipeline.Auto)
	o.Shape = disk.Shape{Format: cmp.Or(string(s.Target.Format), disk.QCOW2), Compress: s.Target.Compress, ClusterSize: s.Target.ClusterSize, Preallocation: string(s.Target.Preallocation)}
	o.With, o.Connect = tester(string(s.Test.With)), s.Test.Connect
	for _, g := range s.Grow {
		o.Grow = append(o.Grow, pipeline.Growth{Disk: g.Disk, Size: g.Size, More: g.More, Volume: g.Volume})
	}
	o.Skip = map[string]string{}
	switch s.Mode {
	case model.ModeRehearse:
		o.Skip["convert"] = "this is a rehearsal: the proof boots from the overlay"
	case model.ModePlan, model.ModeInspect:
		o.Until = string(s.Mode)
	}
	if s.Test.Skip != "" && o.Until == "" {
		o.Skip["test"] = s.Test.Skip
	}
	return o, nil
}

// tester is what the pipeline calls what runs the tested machine.
func tester(with string) string {
	if with == "libvirt" {
		return pipeline.WithLibvirt
	}
	return pipeline.WithQEMU
}
