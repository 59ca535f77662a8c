package api

import (
	"context"
	"fmt"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/disks"
)

// playedDisks plays an appliance with one disk, so that what is answered is held to the
// description. It proves nothing of disks: the package disks looks at some.
type playedDisks struct{}

const playedDisk = "wwn-0x5000c500a1b2c3d4"

func (p playedDisks) List(ctx context.Context) ([]model.Disk, error) {
	d, err := p.Disk(ctx, playedDisk)
	return []model.Disk{d}, err
}

func (playedDisks) Disk(_ context.Context, id string) (model.Disk, error) {
	if id != playedDisk {
		return model.Disk{}, fmt.Errorf("%w: %s", disks.ErrUnknown, id)
	}
	return model.Disk{ID: id, Lasting: true, Present: true, Device: "/dev/sdb", Path: "/dev/disk/by-id/" + id, Size: 1 << 30, Model: "ST1000LM035", Serial: "ZDE1ABCD", Bus: "usb", Table: "gpt", Holds: "1 partition",
		Parts: []model.DiskPart{{Number: 1, Start: 1 << 20, Size: 1 << 20, FileSystem: "ext4"}}, Use: model.DiskUse{As: model.DiskUseAsSource}}, nil
}

func (p playedDisks) Use(ctx context.Context, id string, use model.DiskUse) (model.Disk, error) {
	if use.As == model.DiskUseAsTarget {
		return model.Disk{}, fmt.Errorf("%w: %s", disks.ErrConfirm, id)
	}
	return p.Disk(ctx, id)
}

func (p playedDisks) Release(ctx context.Context, id string) error {
	_, err := p.Disk(ctx, id)
	return err
}

func ofDisk(*testing.T, *harness) props {
	return props{params: map[string]string{"disk": playedDisk}}
}

func TestWhatADiskIsForIsAskedAndRefused(t *testing.T) {
	h := newHarness(t, done)
	h.want(t, "viewer", "GET", "/disks", nil, 200, "")
	h.want(t, "viewer", "GET", "/disks/wwn-0x1", nil, 404, "no-such-disk")
	h.want(t, "viewer", "PUT", "/disks/"+playedDisk+"/use", `{"as":"source"}`, 403, "forbidden")
	h.want(t, "operator", "PUT", "/disks/"+playedDisk+"/use", `{"as":"target"}`, 422, "not-confirmed")
	h.want(t, "operator", "PUT", "/disks/"+playedDisk+"/use", `{"as":"toy"}`, 400, "bad-request")
	h.want(t, "operator", "PUT", "/disks/..%2F..%2Fetc/use", `{"as":"source"}`, 400, "bad-request")
	h.want(t, "operator", "DELETE", "/disks/"+playedDisk+"/use", nil, 204, "")
	a := h.want(t, "operator", "POST", "/migrations", `{"spec":{"source":{"disk":"`+playedDisk+`"},"target":{"storage":"kvm"}}}`, 422, "bad-spec")
	if p := a.problem(t); p.Detail != "the spec cannot be used: no appliance has the disk wwn-0x5000c500a1b2c3d4, chosen as source: PUT /disks/wwn-0x5000c500a1b2c3d4/use chooses it" {
		t.Errorf("a disk that was not chosen: %+v", p)
	}
	h.engine.Attach(nil, []string{"source:" + playedDisk})
	h.want(t, "operator", "POST", "/migrations", `{"spec":{"source":{"disk":"`+playedDisk+`"},"target":{"storage":"kvm"}}}`, 202, "")
	h.want(t, "operator", "POST", "/migrations", `{"spec":{"source":{"disk":"`+playedDisk+`"},"target":{"storage":"kvm","disk":"`+playedDisk+`"}}}`, 422, "bad-spec")
}
