package pipeline

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/transfer"
)

// ones is a disk whose bytes are all 1.
type ones int64

func (o ones) Size() int64 { return int64(o) }

func (ones) Read(p []byte, _ int64) error {
	for i := range p {
		p[i] = 1
	}
	return nil
}

// A run's copy, and its check of one, go on when the disk's server has ended their
// connection.
func TestARunOutlivesALostConnection(t *testing.T) {
	const size = ones(40 << 20)
	at := disk.Export{Socket: filepath.Join(t.TempDir(), "s"), Name: "disk"}
	serve := func() *nbd.Server {
		s, err := nbd.Offer(at.Socket, at.Name, size)
		if err != nil {
			t.Error(err)
		}
		return s
	}
	server := serve()
	loses := func() func(transfer.Progress) {
		var once sync.Once
		return func(transfer.Progress) {
			once.Do(func() {
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				server = serve()
			})
		}
	}
	r := newRun(Config{Log: slog.New(slog.DiscardHandler), Limits: []transfer.Limit{{Rate: 16 << 20}}}, t.TempDir(), nil)
	job := transfer.Job{ID: "x", From: at, To: transfer.Target{Path: filepath.Join(t.TempDir(), "out.raw"), Shape: disk.Shape{Format: disk.Raw}, Size: int64(size)}}
	_, copied := r.copier.Copy(t.Context(), []transfer.Job{job}, loses())
	_, checked := r.reader.Verify(t.Context(), transfer.Check{Manifest: job.To.Manifest(), From: at, Source: true}, loses())
	if err := errors.Join(copied, checked, server.Close()); err != nil {
		t.Error(err)
	}
}
