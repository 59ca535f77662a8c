package fixers

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// mended are inspection's trees of guests whose every kernel can be made to
// start on KVM.
var mended = []string{"fedora-40-bls", "fedora-40-btrfs", "sles-16-grub2-bls", "debian-12-systemd-boot", "pop-22.04-kernelstub"}

var oldRoot = regexp.MustCompile(`root=/dev/(sd|disk/by-path)`)

// TestWhatIsFoundIsMended holds inspection and fixers together: after a plan is
// applied, inspection finds every kernel on offer ready for KVM, and nothing is
// left to plan.
func TestWhatIsFoundIsMended(t *testing.T) {
	for _, name := range mended {
		t.Run(name, func(t *testing.T) {
			g, m := loadGuest(t, "inspect/testdata/"+name+".txtar")
			if _, err := guest.Apply(g, planFor(t, g, m, inspected(t, g, m)).Changes); err != nil {
				t.Fatal(err)
			}
			now := inspected(t, g, m)
			if len(now.Kernels) == 0 {
				t.Fatal("no kernel is found any more")
			}
			for _, k := range now.Kernels {
				if oldRoot.MatchString(k.Options) || len(k.Unstable) > 0 {
					t.Errorf("%s with %s has %q, %v", k.Image, k.Initrd, k.Options, k.Unstable)
				}
				for _, driver := range []string{"virtio_pci", "virtio_blk"} {
					if at := k.Drivers[driver]; at != inspect.InInitrd {
						t.Errorf("%s of %s is in %q", driver, k.Initrd, at)
					}
				}
			}
			if again := planFor(t, g, m, now); len(again.Changes) > 0 || again.Blocked() {
				t.Errorf("planning again changes %+v; concerns %+v", again.Changes[:min(1, len(again.Changes))], again.Concerns)
			}
		})
	}
}

func inspected(t *testing.T, g *tree.FS, m machine.Machine) inspect.Facts {
	t.Helper()
	if err := g.UnmountAll(); err != nil {
		t.Fatal(err)
	}
	f, err := inspect.Inspect(t.Context(), g, m, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func planFor(t *testing.T, g *tree.FS, m machine.Machine, f inspect.Facts) Plan {
	t.Helper()
	plan := makePlan(t, All(), g, fixer.Input{Facts: f, Machine: m})
	for _, c := range plan.Concerns {
		if strings.HasSuffix(c.Code, "/failed") || c.Level == fixer.Blocker {
			t.Errorf("concern %+v", c)
		}
	}
	return plan
}

// loadGuest makes a guest of one of inspection's trees: a folder of files for
// each file system.
func loadGuest(t *testing.T, name string) (*tree.FS, machine.Machine) {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var m machine.Machine
	var topology guest.Topology
	volumes := map[string]*tree.FS{}
	for _, f := range a.Files {
		switch f.Name {
		case "machine.json":
			err = json.Unmarshal(f.Data, &m)
		case "topology.json":
			err = json.Unmarshal(f.Data, &topology)
		default:
			device, _, _ := strings.Cut(f.Name, "/")
			if volumes[device] == nil {
				volumes[device], err = tree.Parse(a, device)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	return tree.NewGuest(topology, volumes), m
}
