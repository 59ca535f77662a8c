package serve

import (
	"errors"
	"path/filepath"
	"time"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/library"
	"hyper2kvm/agent/upload"
)

// receive makes ready what is uploaded: files of storages, and libraries.
func (a *agent) receive() (err error) {
	state := a.settings.State
	if a.uploads, err = upload.New(filepath.Join(state, "uploads"), a.storages.Locate, time.Now); err != nil {
		return err
	}
	shelf, err := library.Open(filepath.Join(state, "libraries"), time.Now)
	if err != nil {
		return err
	}
	to, err := upload.New(filepath.Join(state, "uploads", "libraries"), shelf.Where, time.Now)
	a.libraries = api.Libraries{Shelf: shelf, Uploads: to}
	return err
}

// sweepUploads removes uploads that do not go on.
func (a *agent) sweepUploads() {
	if err := errors.Join(a.uploads.Sweep(), a.libraries.Uploads.Sweep()); err != nil {
		a.log.Warn("an upload that does not go on could not be removed", "err", err)
	}
}
