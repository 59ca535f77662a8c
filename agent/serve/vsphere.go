package serve

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/vcenter"
	"hyper2kvm/agent/worker"
)

// servers makes ready what asks the settings' vCenters and ESXi hosts, once the engine is
// open, which keeps their passwords.
func (a *agent) servers(opened <-chan struct{}) {
	a.vsphere = vcenter.New(vcenter.Config{Servers: a.settings.VSphere, VDDK: a.libraries.Shelf.VDDK, File: credential, Log: a.log,
		Secret: func(ctx context.Context, name string) (seal.Secret, uint64, error) {
			select {
			case <-opened:
				return a.secrets.OpenRevision(ctx, name)
			case <-ctx.Done():
				return nil, 0, context.Cause(ctx)
			}
		}})
}

func (a *agent) serverNames() (names []string) {
	for _, s := range a.settings.VSphere {
		names = append(names, s.Name)
	}
	return names
}

// tidyScratch removes what is left of looks that were cut short in an earlier life; not
// of those that go on, because something in vSphere is still to be taken back.
func tidyScratch(folder string, v worker.VSphere) error {
	list, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		path := filepath.Join(folder, e.Name())
		owes, failed := v.Owes(path)
		if failed == nil && !owes {
			failed = os.RemoveAll(path)
		}
		err = errors.Join(err, failed)
	}
	return err
}
