package api

import (
	"context"

	"hyper2kvm/agent/api/model"
)

// Disks are those that are attached to this appliance.
type Disks interface {
	List(ctx context.Context) ([]model.Disk, error)
	Disk(ctx context.Context, id string) (model.Disk, error)
	Use(ctx context.Context, id string, use model.DiskUse) (model.Disk, error)
	Release(ctx context.Context, id string) error
}

// ListDisks implements listDisks.
func (s *server) ListDisks(ctx context.Context, _ ListDisksRequestObject) (ListDisksResponseObject, error) {
	list, err := s.Disks.List(ctx)
	return ListDisks200JSONResponse{Items: list}, err
}

// ReadDisk implements readDisk.
func (s *server) ReadDisk(ctx context.Context, r ReadDiskRequestObject) (ReadDiskResponseObject, error) {
	d, err := s.Disks.Disk(ctx, r.Disk)
	return ReadDisk200JSONResponse(d), err
}

// UseDisk implements useDisk. Whoever asks may go away: a file system is not made by half.
func (s *server) UseDisk(ctx context.Context, r UseDiskRequestObject) (UseDiskResponseObject, error) {
	d, err := s.Disks.Use(context.WithoutCancel(ctx), r.Disk, *r.Body)
	return UseDisk200JSONResponse(d), err
}

// ReleaseDisk implements releaseDisk.
func (s *server) ReleaseDisk(ctx context.Context, r ReleaseDiskRequestObject) (ReleaseDiskResponseObject, error) {
	return ReleaseDisk204Response{}, s.Disks.Release(ctx, r.Disk)
}
