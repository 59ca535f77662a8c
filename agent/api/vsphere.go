package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// VSphere asks the vCenters and ESXi hosts of the settings. It is an interface so that
// this package does not stand on the library of vSphere. Errors that callers can do
// something about are an engine.Failure.
type VSphere interface {
	Servers() []model.Server
	Check(ctx context.Context, server string, q model.CheckServerParams) ([]model.Finding, error)
	VMs(ctx context.Context, server string, q model.ListVMsParams) (model.VMList, error)
	VM(ctx context.Context, server, ref string) (model.VM, error)
}

// vsphere is who asks them.
func (s *server) vsphere(server string) (VSphere, error) {
	if s.Config.VSphere == nil {
		const status = http.StatusNotFound
		return nil, &engine.Failure{Problem: model.Problem{Status: status, Code: "no-such-server", Detail: fmt.Sprintf("the settings have no such vSphere server: %q", server)}}
	}
	return s.Config.VSphere, nil
}

// ListServers implements listServers.
func (s *server) ListServers(context.Context, ListServersRequestObject) (ListServersResponseObject, error) {
	list := []model.Server{}
	if s.Config.VSphere != nil {
		list = s.Config.VSphere.Servers()
	}
	for i := range list {
		list[i].Appliances = []string{}
		for _, a := range s.Engine.Appliances() {
			if slices.Contains(a.Servers, list[i].Name) {
				list[i].Appliances = append(list[i].Appliances, a.Name)
			}
		}
	}
	return ListServers200JSONResponse{Items: list}, nil
}

// CheckServer implements checkServer.
func (s *server) CheckServer(ctx context.Context, r CheckServerRequestObject) (CheckServerResponseObject, error) {
	v, err := s.vsphere(r.Name)
	if err != nil {
		return nil, err
	}
	found, err := v.Check(ctx, r.Name, r.Params)
	return CheckServer200JSONResponse{Items: found}, err
}

// ListVMs implements listVMs.
func (s *server) ListVMs(ctx context.Context, r ListVMsRequestObject) (ListVMsResponseObject, error) {
	v, err := s.vsphere(r.Name)
	if err != nil {
		return nil, err
	}
	list, err := v.VMs(ctx, r.Name, r.Params)
	return ListVMs200JSONResponse(list), err
}

// ReadVM implements readVM.
func (s *server) ReadVM(ctx context.Context, r ReadVMRequestObject) (ReadVMResponseObject, error) {
	v, err := s.vsphere(r.Name)
	if err != nil {
		return nil, err
	}
	vm, err := v.VM(ctx, r.Name, r.Ref)
	return ReadVM200JSONResponse(vm), err
}
