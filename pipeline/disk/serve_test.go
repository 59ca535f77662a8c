package disk

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShapesThatCannotBeMadeAreRefused(t *testing.T) {
	for name, s := range map[string]Shape{
		"no format":                    {},
		"an unknown format":            {Format: "qed"},
		"raw, compressed":              {Format: Raw, Compress: true},
		"raw with clusters":            {Format: Raw, ClusterSize: 65536},
		"raw with metadata":            {Format: Raw, Preallocation: "metadata"},
		"vmdk, preallocated":           {Format: VMDK, Preallocation: "full"},
		"clusters of three":            {Format: QCOW2, ClusterSize: 3 << 10},
		"clusters too small":           {Format: QCOW2, ClusterSize: 256},
		"clusters too large":           {Format: QCOW2, ClusterSize: 4 << 20},
		"preallocated otherwise":       {Format: QCOW2, Preallocation: "some"},
		"compressed, and preallocated": {Format: QCOW2, Compress: true, Preallocation: "full"},
		"compressed in large clusters": {Format: QCOW2, Compress: true, ClusterSize: 1 << 20},
	} {
		if err := s.Check(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: Check = %v, want %v", name, err, ErrFormat)
		}
		if err := Create(t.Context(), filepath.Join(t.TempDir(), "x"), 1<<20, s); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: Create = %v, want %v", name, err, ErrFormat)
		}
	}
	if err := Create(t.Context(), filepath.Join(t.TempDir(), "x"), 1<<20+512, Shape{Format: QCOW2, Compress: true}); !errors.Is(err, ErrFormat) {
		t.Errorf("a size that no compressed disk has: %v, want %v", err, ErrFormat)
	}
}

func TestHowDisksAreMade(t *testing.T) {
	for name, c := range map[string]struct {
		s    Shape
		want []string
	}{
		"raw":       {Shape{Format: Raw}, []string{"create", "-q", "-f", "raw", "--", "x", "1024"}},
		"all of it": {Shape{Format: QCOW2, ClusterSize: 131072, Preallocation: "metadata"}, []string{"create", "-q", "-f", "qcow2", "-o", "compat=1.1", "-o", "cluster_size=131072", "-o", "preallocation=metadata", "--", "x", "1024"}},
	} {
		if d := cmp.Diff(c.want, c.s.createArgs("x", 1024)); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
}

func TestHowDisksAreServedForWriting(t *testing.T) {
	want := []string{
		"--blockdev", `{"driver":"compress","file":{"driver":"qcow2","file":{"cache":{"no-flush":true},"driver":"file","filename":"x"},"node-name":"disk"},"node-name":"compress"}`,
		"--nbd-server", `{"addr":{"path":"d/nbd.sock","type":"unix"},"max-connections":0}`,
		"--export", `{"id":"nbd","name":"disk","node-name":"compress","type":"nbd","writable":true}`,
		"--export", `{"addr":{"path":"d/vhost.sock","type":"unix"},"id":"vhost","node-name":"compress","type":"vhost-user-blk","writable":true}`,
	}
	if d := cmp.Diff(want, servedArgs("x", Shape{Format: QCOW2, Compress: true}, "d")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
