package vcenter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// Check is what migrations from a server stand on. That it is not reached, or refuses
// its user, is a finding.
func (p *Pool) Check(ctx context.Context, name string, q model.CheckServerParams) ([]model.Finding, error) {
	purposes, err := Purposes(q.For)
	if err != nil {
		return nil, problem(err)
	}
	asked := vmware.Asked{Purposes: purposes}
	var found []vmware.Finding
	err = p.with(ctx, name, func(ctx context.Context, s *server, c *shared) (err error) {
		asked.Outside = append(Programs(ctx), p.library(ctx, s))
		if asked.VMs, err = meant(ctx, c, q.VM); err == nil {
			found, err = c.Check(ctx, asked)
		}
		return err
	})
	if errors.Is(err, vmware.ErrConnect) || errors.Is(err, vmware.ErrLogin) || errors.Is(err, vmware.ErrPrivilege) {
		found, err = []vmware.Finding{vmware.Refused(err)}, nil
	}
	list := []model.Finding{}
	for _, f := range found {
		list = append(list, model.Finding{Code: f.Code, Level: model.FindingLevel(f.Level), Text: f.Text, Try: f.Try})
	}
	return list, problem(err)
}

// meant are the VMs that texts mean; none if there are no texts.
func meant(ctx context.Context, c *shared, texts []string) (list []vmware.VM, err error) {
	if len(texts) == 0 {
		return nil, nil
	}
	for vm, err := range c.VMs(ctx, vmware.Selection{VMs: texts}) {
		if err != nil {
			return nil, err
		}
		list = append(list, vmware.VM{Ref: vm.Ref, Name: vm.Name})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: %s", vmware.ErrNotFound, strings.Join(texts, ", "))
	}
	return list, nil
}

// library finds out whether VMware's library can be used for a server.
func (p *Pool) library(ctx context.Context, s *server) vmware.Finding {
	folder, err := p.vddk(s)
	if err != nil {
		return vmware.Finding{Code: "vsphere/vddk", Level: vmware.Warning, Text: err.Error(), Try: "upload it, or disks are read in other ways"}
	}
	return Library(ctx, transport.Access{VDDK: folder, VDDKPlugin: s.VDDKPlugin}, "upload it, and write vddk: vddk into the server's settings to use it too")
}

// vddk is the folder of a server's library; "" if it is to have none.
func (p *Pool) vddk(s *server) (string, error) {
	if s.VDDK == config.Uploaded {
		return p.config.VDDK()
	}
	return s.VDDK, nil
}
