package client

import (
	"context"

	"hyper2kvm/agent/api/model"
)

// Disks are those that are attached to the appliance.
func (c *Conn) Disks(ctx context.Context) ([]model.Disk, error) {
	list, err := into[struct{ Items []model.Disk }](c.api.ListDisks(ctx))
	return list.Items, err
}

// Disk is one of them.
func (c *Conn) Disk(ctx context.Context, id string) (model.Disk, error) {
	return into[model.Disk](c.api.ReadDisk(ctx, id))
}

// UseDisk chooses what a disk is for.
func (c *Conn) UseDisk(ctx context.Context, id string, use model.DiskUse) (model.Disk, error) {
	return into[model.Disk](c.api.UseDisk(ctx, id, use))
}

// ReleaseDisk takes that back.
func (c *Conn) ReleaseDisk(ctx context.Context, id string) error {
	return done(c.api.ReleaseDisk(ctx, id))
}
