package client

import (
	"context"
	"iter"

	"hyper2kvm/agent/api/model"
)

// VMs are those of a server that the appliance's settings name, by their paths.
func (c *Conn) VMs(ctx context.Context, server string, filter model.ListVMsParams) iter.Seq2[model.VM, error] {
	filter.Limit = pageOf
	return func(yield func(model.VM, error) bool) {
		for {
			page, err := into[model.VMList](c.api.ListVMs(ctx, server, &filter))
			if err != nil {
				yield(model.VM{}, err)
				return
			}
			for _, vm := range page.Items {
				if !yield(vm, nil) {
					return
				}
			}
			if filter.Cursor = page.Next; page.Next == "" {
				return
			}
		}
	}
}

// CheckServer is what migrations from such a server stand on.
func (c *Conn) CheckServer(ctx context.Context, server string, q model.CheckServerParams) ([]model.Finding, error) {
	list, err := into[struct{ Items []model.Finding }](c.api.CheckServer(ctx, server, &q))
	return list.Items, err
}
