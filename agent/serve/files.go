package serve

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/library"
	"hyper2kvm/agent/update"
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

// offer makes ready the downloads of other appliances.
func (a *agent) offer() (err error) {
	m, err := update.ThisMachine()
	if err != nil {
		return err
	}
	a.downloads, err = downloads.Open(downloads.Config{Folder: filepath.Join(a.settings.State, "downloads"), Sealer: a.own, Storages: a.storages,
		Machine: downloads.ThisMachine(), Starter: m, Version: a.version, Now: time.Now, Log: a.log})
	return err
}

// sweepDownloads removes downloads that are over.
func (a *agent) sweepDownloads(ctx context.Context) {
	if err := a.downloads.Sweep(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("a download that is over could not be removed", "err", err)
	}
}

// sweepUploads removes uploads that do not go on.
func (a *agent) sweepUploads() {
	if err := errors.Join(a.uploads.Sweep(), a.libraries.Uploads.Sweep()); err != nil {
		a.log.Warn("an upload that does not go on could not be removed", "err", err)
	}
}
