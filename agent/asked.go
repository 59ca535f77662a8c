package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/worker"
	"hyper2kvm/pipeline"
)

// remoteFlags are what migrations on an appliance are asked for besides.
type remoteFlags struct {
	name     string
	approval bool
	detach   bool
}

func (f *flags) addRemote(c *cobra.Command) {
	f.addName(c)
	c.Flags().BoolVar(&f.remote.approval, "approval", false, "with --appliance: wait before FIX until the plan is approved")
	c.Flags().BoolVar(&f.remote.detach, "detach", false, "with --appliance: print the migration's ID and do not wait for its end")
}

func (f *flags) addName(c *cobra.Command) {
	c.Flags().StringVar(&f.remote.name, "name", "", "name of the result and of its folder, such as {name}-kvm; {name} is the source's")
}

// addThere is for commands that put their result nowhere but on an appliance.
func (f *flags) addThere(c *cobra.Command) {
	c.Flags().StringVar(&f.to, "to", "", "with --appliance: storage that it works in (default: the appliance's own)")
}

// spec is what the flags ask an appliance for.
func (f *flags) spec(mode model.Mode, source string) (s model.Spec, err error) {
	s = model.Spec{Mode: mode, Name: f.remote.name, Engine: model.SpecEngine(f.engine), Limits: f.limits}
	if s.Source, err = f.source(source); err != nil {
		return s, err
	}
	if s.Target, err = f.target(mode); err != nil {
		return s, err
	}
	if strings.Contains(s.Name, sourcesName) {
		s.Name = f.called(worker.Name(model.Spec{Source: s.Source}))
	}
	if f.remote.approval {
		s.Approval = model.SpecApprovalRequired
	}
	for _, text := range f.folders {
		var p model.Place
		if p.Storage, p.Path, err = storagePlace(text); err != nil {
			return s, err
		}
		s.AllowFolders = append(s.AllowFolders, p)
	}
	growth, err := f.growth()
	if err != nil {
		return s, err
	}
	for _, g := range growth {
		s.Grow = append(s.Grow, model.Growth{Disk: g.Disk, Size: g.Size, More: g.More})
	}
	if s.Keys, err = f.secrets(); err != nil {
		return s, err
	}
	s.Test = model.Test{With: model.TestWith(f.with), Connect: f.connect}
	if f.hardware == pipeline.OnVMware {
		s.Test.Hardware = model.TestHardwareVmware
	}
	if f.noTest {
		s.Test = model.Test{Skip: whyNoTest}
	}
	return s, nil
}

func (f *flags) target(mode model.Mode) (t model.Target, err error) {
	if f.to == "" && (mode == model.ModePlan || mode == model.ModeInspect) {
		return t, f.needsTarget()
	}
	if f.to == "" || f.to == "." || strings.ContainsAny(f.to, "/:") {
		return t, fmt.Errorf("%w: --to is a storage of the appliance's: see hyper2kvm storages", errUsage)
	}
	shape, err := f.targetShape()
	if err != nil {
		return t, err
	}
	storages, err := f.mapped()
	if err != nil {
		return t, err
	}
	disks, err := f.targetDisks()
	return model.Target{Storage: f.to, Disks: disks, Format: model.TargetFormat(shape.Format), Compress: shape.Compress, ClusterSize: shape.ClusterSize,
		Preallocation: model.TargetPreallocation(shape.Preallocation), Cpus: f.overrides.CPUs, Memory: f.overrides.Memory, Networks: f.overrides.Networks, Storages: storages}, err
}

// needsTarget refuses what is said of a target that is not there.
func (f *flags) needsTarget() error {
	if len(f.storages)+len(f.overrides.Networks) > 0 || f.overrides.CPUs > 0 || f.overrides.Memory > 0 {
		return fmt.Errorf("%w: --storage, --network, --cpus and --memory are of a target: give its storage with --to", errUsage)
	}
	return nil
}

// secrets are the keys of the flags called key, which the appliance has stored.
func (f *flags) secrets() (keys []model.Key, err error) {
	for _, text := range f.keys {
		device, name, ok := strings.Cut(text, ":secret:")
		if !ok || device == "" || name == "" {
			return nil, fmt.Errorf("%w: --key with --appliance names a secret that is stored there: write disk0p3:secret:NAME", errUsage)
		}
		keys = append(keys, model.Key{Device: device, Secret: name})
	}
	return keys, nil
}
