package vsphere

import (
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/vsphere/waystest"
	"hyper2kvm/vmware/vmwaretest"
)

// together lets a test run beside others, unless it is of what the environment configures.
func together(t *testing.T, way string) {
	t.Helper()
	if way != "vddk" {
		t.Parallel()
	}
}

// layered writes to the disks and makes snapshots, as people did before a migration: what
// the disks hold lies in several files of each.
func (l *lab) layered(t *testing.T) {
	t.Helper()
	for i, name := range []string{"before the update", "after it"} {
		l.Snapshot(t, l.vm.Ref, name)
		l.write(t, 0, 64<<10, []byte(name)) // before the partition
		l.write(t, 1, int64(i+1)<<20, []byte(strings.Repeat(name, 3000)))
	}
}

func TestEveryTransportBringsAVMThatIsOff(t *testing.T) {
	for _, way := range waystest.All {
		t.Run(way.Name, func(t *testing.T) {
			together(t, way.Name)
			l := newLab(t, nil)
			way.Needs(t, l.Ways)
			l.by = []string{way.Name}
			l.layered(t)
			r := l.run(t)
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.wants(t, off)
			l.arrived(t, r)
			if got := strings.Join(carriers(r), ", "); got != way.Name {
				t.Errorf("the disks came by %s", got)
			}
			l.verified(t, r)
			l.wants(t, off)
			if names, err := Restore(t.Context(), l.config()); err != nil || strings.Join(names, ", ") != "power of "+l.vm.Name {
				t.Errorf("taken back are %q, %v", names, err)
			}
			l.wants(t, on)
		})
	}
}

// TestEveryTransportBringsAVMAsItWasInItsSnapshot: what its guest writes meanwhile is not seen.
func TestEveryTransportBringsAVMAsItWasInItsSnapshot(t *testing.T) {
	for _, way := range waystest.All {
		t.Run(way.Name, func(t *testing.T) {
			together(t, way.Name)
			l := newLab(t, nil)
			way.Needs(t, l.Ways)
			l.by = []string{way.Name}
			l.layered(t)
			r := l.run(t, live, before("flatten", func() error {
				l.scribble(t, 0, 64<<10, []byte("later"))
				l.scribble(t, 1, 1<<20, []byte("later"))
				return nil
			}))
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.wants(t, on)
			l.arrived(t, r)
			if owes, err := Owes(l.folder); err != nil || owes {
				t.Errorf("the folder owes %v, %v", owes, err)
			}
		})
	}
}

func TestAVMComesFromAHostAlone(t *testing.T) {
	l := newLabAt(t, vmwaretest.Options{ESX: true}, nil)
	l.layered(t)
	l.OverSSH(t)
	for _, way := range []string{"https", "nfc", "ssh"} {
		t.Run(way, func(t *testing.T) {
			l.by, l.folder = []string{way}, filepath.Join(t.TempDir(), "small")
			r := l.run(t)
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.wants(t, off)
			l.arrived(t, r)
			l.verified(t, r)
			if _, err := Restore(t.Context(), l.config()); err != nil {
				t.Error(err)
			}
			l.wants(t, on)
		})
	}
}
