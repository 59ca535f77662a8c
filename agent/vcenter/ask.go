package vcenter

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/vmware"
)

// Servers are those of the settings. Nothing is asked of them.
func (p *Pool) Servers() []model.Server {
	list := []model.Server{}
	for _, s := range p.servers {
		v := model.Server{Name: s.Name, Server: s.Server.Server, User: s.User, Secret: s.Secret, Thumbprint: s.Thumbprint, Transports: s.Transports, Vddk: s.VDDK}
		if no := s.no.Load(); no != nil {
			v.Refused = no.Error()
		}
		list = append(list, v)
	}
	return list
}

// usually is how many VMs a page has if nobody says.
const usually = 100

// VMs is a page of a server's VMs, each with what stands against migrating it. No more
// than some pages of the inventory are in memory meanwhile.
func (p *Pool) VMs(ctx context.Context, name string, q model.ListVMsParams) (list model.VMList, err error) {
	limit := cmp.Or(int(q.Limit), usually)
	list.Items = []model.VM{}
	sel := vmware.Selection{VMs: q.Name, Folders: q.Folder, Clusters: q.Cluster, Tags: q.Tag, ReadTags: q.Tags || len(q.Tag) > 0, After: q.Cursor}
	err = p.with(ctx, name, func(ctx context.Context, _ *server, c *shared) error {
		var err error
		if sel.Survey, err = c.surveyed(ctx, q.Cursor == ""); err != nil {
			return err
		}
		last := ""
		for row, err := range vmware.Judged(c.VMs(ctx, sel), sel.Survey.Around()) {
			if err != nil {
				return err
			}
			if len(list.Items) == limit {
				list.Next = last
				return nil
			}
			list.Items, last = append(list.Items, told(row)), row.Place()
		}
		return nil
	})
	return list, problem(err)
}

// VM is one of a server's by its MoRef.
func (p *Pool) VM(ctx context.Context, name, ref string) (v model.VM, err error) {
	err = p.with(ctx, name, func(ctx context.Context, _ *server, c *shared) error {
		survey, err := c.surveyed(ctx, false)
		if err != nil {
			return err
		}
		for row, err := range vmware.Judged(c.VMs(ctx, vmware.Selection{Refs: []string{ref}}), survey.Around()) {
			if err != nil {
				return err
			}
			v = told(row)
			return nil
		}
		return fmt.Errorf("%w: %q", vmware.ErrNotFound, ref)
	})
	return v, problem(err)
}

// lasting is how long what is known of all VMs is taken for the present.
const lasting = time.Minute

// surveyed is a look at the whole inventory. It is remembered for a moment, for pages that
// follow, unless it is to be a new one.
func (c *shared) surveyed(ctx context.Context, anew bool) (*vmware.Survey, error) {
	c.mu.Lock()
	survey, until := c.survey, c.until
	c.mu.Unlock()
	if !anew && time.Now().Before(until) {
		return survey, nil
	}
	survey, err := c.Survey(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.survey, c.until = survey, time.Now().Add(lasting)
	return survey, nil
}
