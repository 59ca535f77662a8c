package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/vcenter"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// checkServer is the prerequisite page.
func (a *app) checkServer() *cobra.Command {
	var f vsphereFlags
	var common flags
	var purposes []string
	c := oneOf("check SERVER [VM...]", "Tell what migrations from a server still lack", aServer, func(ctx context.Context, args []string) error {
		if err := common.check(); err != nil {
			return err
		}
		list, err := purposesOf(purposes)
		if err != nil {
			return err
		}
		if a.remote() {
			return a.checkThere(ctx, args[0], args[1:], purposes, common.output)
		}
		return a.showCheck(ctx, &f, args[0], vmware.Selection{VMs: args[1:]}, list, common.output)
	})
	c.Long = `Look at all that migrations from a vCenter or an ESXi host stand on, for the VMs that
are named, and change nothing: whether the server and its hosts are reached, clocks,
versions and licences, which privileges are missing on which objects and for what,
VMware's VDDK, and the VM that this program runs in. With --appliance SERVER is the
name of one in the appliance's settings.`
	f.addServer(c)
	c.Flags().StringVar(&f.vddk, "vddk", "", "folder of VMware's VDDK, to be tried")
	f.addPlugin(c)
	c.Flags().StringSliceVar(&purposes, "for", nil, "what will be done; what that lacks is a blocker: "+vcenter.PurposeNames())
	common.addOutput(c)
	return c
}

func (a *app) showCheck(ctx context.Context, f *vsphereFlags, server string, s vmware.Selection, purposes []vmware.Purpose, output string) error {
	found, err := f.check(ctx, a, server, s, purposes)
	if err != nil {
		return err
	}
	return a.showFindings(found, output)
}

// showFindings shows them. One that blocks is an error.
func (a *app) showFindings(found []vmware.Finding, output string) (err error) {
	if output == "json" {
		err = a.json(found)
	} else {
		err = a.print(findingsText(found))
	}
	if slices.ContainsFunc(found, func(f vmware.Finding) bool { return f.Level == vmware.Blocker }) {
		err = errors.Join(err, fmt.Errorf("%w: see above", pipeline.ErrBlocked))
	}
	return err
}

// check looks at a server. One that cannot be reached is a finding.
func (f *vsphereFlags) check(ctx context.Context, a *app, server string, s vmware.Selection, purposes []vmware.Purpose) (found []vmware.Finding, err error) {
	host, user, err := vsphere.ParseServer(server)
	if err != nil {
		return nil, err
	}
	c, err := f.server(a, host, user)
	if err != nil {
		return nil, err
	}
	session, err := vmware.Connect(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return []vmware.Finding{vmware.Refused(err)}, nil
	}
	defer func() { err = errors.Join(err, session.Close(context.WithoutCancel(ctx))) }()
	asked := vmware.Asked{Purposes: purposes, Outside: append(vcenter.Programs(ctx), vcenter.Library(ctx, transport.Access{VDDK: f.vddk, VDDKPlugin: f.plugin}, "give its folder with --vddk to use it too"))}
	if len(s.VMs) > 0 {
		for vm, err := range session.VMs(ctx, s) {
			if err != nil {
				return nil, vsphere.Asked(err)
			}
			asked.VMs = append(asked.VMs, vm)
		}
		if len(asked.VMs) == 0 {
			return nil, fmt.Errorf("%w: %w: %s", source.ErrBadInput, vmware.ErrNotFound, strings.Join(s.VMs, ", "))
		}
	}
	return session.Check(ctx, asked)
}

func findingsText(list []vmware.Finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-8s%s: %s\n", f.Level, f.Code, pipeline.Line(f.Text))
		if f.Try != "" {
			fmt.Fprintf(&b, "        try: %s\n", pipeline.Line(f.Try))
		}
	}
	return b.String()
}

// assess tells what migrating VMs takes.
func (a *app) assess() *cobra.Command {
	var f vsphereFlags
	var common flags
	var rvtools, wave string
	link, disk := sizeFlag(117e6), sizeFlag(100e6)
	rates := vmware.Rates{Parallel: 4, Fixed: 2 * time.Minute}
	c := oneOf("assess [SERVER [VM...]]", "Tell what space and time migrating VMs takes, with --rvtools without a server", anyArgs, func(ctx context.Context, args []string) error {
		if err := common.check(); err != nil {
			return err
		}
		rows, err := f.rows(ctx, a, rvtools, args)
		if err != nil {
			return err
		}
		by, err := waves(wave)
		if err != nil {
			return err
		}
		rates.Link, rates.Disk = int64(link), int64(disk)
		return a.showAssessment(vmware.Assess(rows, rates, by), common.output)
	})
	f.addServer(c)
	c.Flags().StringVar(&rvtools, "rvtools", "", "export of RVTools: its .xlsx file, or the folder of its .csv files")
	c.Flags().StringVar(&wave, "wave", "", "sum up by folder, cluster or host")
	c.Flags().Var(&link, "link", "bytes a second that the network carries")
	c.Flags().Var(&disk, "disk", "bytes a second at which one disk is read")
	c.Flags().IntVar(&rates.Parallel, "parallel", rates.Parallel, "disks that are read at a time")
	c.Flags().DurationVar(&rates.Fixed, "each", rates.Fixed, "what each VM takes besides its bytes")
	common.addOutput(c)
	return c
}

func anyArgs(*cobra.Command, []string) error { return nil }

// rows are a server's VMs, or those of an export.
func (f *vsphereFlags) rows(ctx context.Context, a *app, rvtools string, args []string) (rows []vmware.Row, err error) {
	if (rvtools == "") == (len(args) == 0) {
		return nil, fmt.Errorf("%w: want a SERVER, or --rvtools FILE", errUsage)
	}
	if rvtools != "" {
		return exported(rvtools)
	}
	err = f.within(ctx, a, args[0], func(session *vmware.Session) error {
		for row, err := range session.Rows(ctx, vmware.Selection{VMs: args[1:]}) {
			if err != nil {
				return vsphere.Asked(err)
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

func exported(path string) (rows []vmware.Row, err error) {
	list, err := vmware.ReadRVTools(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	var around vmware.Around
	for _, vm := range list {
		around.Add(vm)
	}
	for _, vm := range list {
		rows = append(rows, vmware.Row{VM: vm, Concerns: vmware.Concerns(vm, around)})
	}
	return rows, nil
}

// waves tells a VM's wave by what VMs are put together by.
func waves(by string) (func(vmware.VM) string, error) {
	switch by {
	case "":
		return nil, nil
	case "folder":
		return func(vm vmware.VM) string { return vm.Path[:max(0, strings.LastIndex(vm.Path, "/"))] }, nil
	case "cluster":
		return func(vm vmware.VM) string { return vm.Cluster }, nil
	case "host":
		return func(vm vmware.VM) string { return vm.Host }, nil
	}
	return nil, fmt.Errorf("%w: --wave %s: want folder, cluster or host", errUsage, by)
}

func (a *app) showAssessment(list vmware.Assessment, output string) error {
	if output == "json" {
		return a.json(list)
	}
	var b strings.Builder
	line := func(name string, s vmware.Sum) {
		fmt.Fprintf(&b, "%-40s %5d VMs %5d disks  size %9s  used %9s  target %9s  work %9s  nfc %9s  %v to %v  %d with blockers, %d with warnings\n",
			pipeline.Line(name), s.VMs, s.Disks, size(s.Size), size(s.Used), size(s.Target), size(s.Work), size(s.NFC), round(s.Time.Least), round(s.Time.Most), s.Blockers, s.Warnings)
	}
	for _, vm := range list.VMs {
		line(vm.Path, vm.Sum)
	}
	for _, name := range slices.Sorted(maps.Keys(list.Waves)) {
		line("wave "+name, list.Waves[name])
	}
	line("total", list.Total)
	b.WriteString("nfc: more space in the work folder, where disks are read by nfc\n")
	fmt.Fprintf(&b, "times at %s/s of the network and %s/s of a disk, %d at a time\n", size(list.Rates.Link), size(list.Rates.Disk), list.Rates.Parallel)
	return a.print(b.String())
}
