package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/spec"
	"hyper2kvm/agent/vcenter"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
)

// source is a source of an appliance's: a file in a storage, attached disks, or a VM of a server that its
// settings name.
func (f *flags) source(text string) (s model.Source, err error) {
	if ids := diskIDs(text); len(ids) == 1 {
		s.Disk = ids[0]
		return s, nil
	} else if ids != nil {
		s.Disks = ids
		return s, nil
	}
	if !vsphere.Is(text) {
		s.Storage, s.Path, err = storagePlace(text)
		return s, err
	}
	server, user, vm, err := vsphere.Parse(text)
	if err != nil {
		return s, err
	}
	if user != "" {
		return s, fmt.Errorf("%w: %s: the appliance's settings say who logs in: leave out %s@", errUsage, text, user)
	}
	v := &f.vsphere
	s.Vsphere = model.SourceVM{Server: server, VM: vm, PowerOff: v.powerOff, ShutdownWait: int(v.shutdown.Seconds()), Quiesce: v.quiesce, Marks: v.marks()}
	for _, name := range v.transports {
		s.Vsphere.Transports = append(s.Vsphere.Transports, model.SourceVMTransports(name))
	}
	return s, nil
}

// sourceText is a source for people, as source takes it.
func sourceText(s model.Source) string {
	if s.Vsphere.Server != "" {
		return vsphere.Scheme + "://" + s.Vsphere.Server + "/" + strings.TrimPrefix(s.Vsphere.VM, "/")
	}
	if ids := spec.Disks(s); ids != nil {
		return diskScheme + strings.Join(ids, ",")
	}
	return s.Storage + ":" + s.Path
}

// listVMsThere lists VMs of a server that an appliance's settings name.
func (a *app) listVMsThere(ctx context.Context, server string, s vmware.Selection, output string) error {
	write, err := a.rowWriter(output)
	if err != nil {
		return err
	}
	c, err := a.dial()
	if err != nil {
		return err
	}
	list := c.VMs(ctx, server, model.ListVMsParams{Name: s.VMs, Folder: s.Folders, Cluster: s.Clusters, Tag: s.Tags, Tags: output != "text"})
	if output == "json" { // as the API has it
		return vmware.WriteJSON(a.stdout, list)
	}
	return write(rowsOf(list))
}

// rowsOf are VMs that the API shows as rows of a table.
func rowsOf(list iter.Seq2[model.VM, error]) iter.Seq2[vmware.Row, error] {
	return func(yield func(vmware.Row, error) bool) {
		for vm, err := range list {
			if !yield(vcenter.Row(vm), err) {
				return
			}
		}
	}
}

// checkThere has an appliance look at a server that its settings name.
func (a *app) checkThere(ctx context.Context, server string, vms, purposes []string, output string) error {
	c, err := a.dial()
	if err != nil {
		return err
	}
	list, err := c.CheckServer(ctx, server, model.CheckServerParams{VM: vms, For: purposes})
	if err != nil {
		return err
	}
	var found []vmware.Finding
	for _, f := range list {
		found = append(found, vmware.Finding{Code: f.Code, Level: vmware.Level(f.Level), Text: f.Text, Try: f.Try})
	}
	return a.showFindings(found, output)
}
