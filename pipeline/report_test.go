package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/libguestfs"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
)

func TestTheEngineIsChosenWithAReason(t *testing.T) {
	broken := errors.New("no loop devices")
	kvm, tcg := accel.Choice{Name: accel.KVM, Reason: "KVM answered"}, accel.Choice{Name: accel.TCG, Reason: "KVM hangs"}
	for _, c := range []struct {
		name, asked string
		choice      accel.Choice
		direct      error
		packaged    bool
		want        string // "" for ErrEngine
		reason      string
	}{
		{"KVM works", Auto, kvm, nil, true, Libguestfs, "KVM works"},
		{"KVM works, without libguestfs", Auto, kvm, nil, false, Direct, "this build has no libguestfs"},
		{"emulation", Auto, tcg, nil, true, Direct, "KVM hangs"},
		{"emulation, direct is broken", Auto, tcg, broken, true, Libguestfs, "no loop devices"},
		{"nothing works", Auto, tcg, broken, false, "", "no loop devices"},
		{"direct, asked for", Direct, kvm, nil, true, Direct, "asked for"},
		{"direct, asked for and broken", Direct, kvm, broken, true, "", "no loop devices"},
		{"libguestfs, asked for", Libguestfs, tcg, nil, true, Libguestfs, "asked for"},
		{"libguestfs, asked for and not there", Libguestfs, tcg, nil, false, "", "this build has no libguestfs"},
	} {
		got, err := chooseEngine(c.asked, c.choice, c.direct, c.packaged)
		if got.Name != c.want || (c.want == "") != errors.Is(err, ErrEngine) {
			t.Errorf("%s: chooseEngine = %+v, %v, want %q", c.name, got, err, c.want)
		}
		if text := got.Reason; err == nil && !strings.Contains(text, c.reason) || err != nil && !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: the reason is %q, %v, want one with %q", c.name, text, err, c.reason)
		}
	}
}

// A libguestfs that does not start is no reason to give up, unless it was asked for or the
// direct engine does not work.
func TestALibguestfsThatDoesNotStartIsNotInsistedOn(t *testing.T) {
	stuck, broken := fmt.Errorf("%w within 2m0s", libguestfs.ErrLaunch), errors.New("no loop devices")
	for _, c := range []struct {
		name, asked   string
		fails, direct error
		want          string // the engine; "" for ErrEngine
		reason        string
	}{
		{"it does not start", Auto, stuck, nil, Direct, "libguestfs's virtual machine did not start within 2m0s"},
		{"it starts", Auto, nil, nil, Libguestfs, "KVM works"},
		{"it is asked for", Libguestfs, stuck, nil, "", "did not start"},
		{"there is no other", Auto, stuck, broken, "", "did not start"},
		{"it starts, and fails", Auto, errors.New("topology: broken"), nil, "", "topology: broken"},
	} {
		r := &Run{Migration: &Migration{Options: Options{Engine: c.asked}, Accel: accel.Choice{Name: accel.KVM}}, packaged: true, log: slog.New(slog.DiscardHandler)}
		r.noDirect = func(context.Context) error { return c.direct }
		r.engine = func(_ context.Context, name string, _ *disk.Storage, _ accel.Choice, _ *slog.Logger) (guest.Guest, error) {
			if name == Libguestfs && c.fails != nil {
				return nil, c.fails
			}
			return tree.NewGuest(guest.Topology{}, nil), nil
		}
		err := r.openGuest(t.Context())
		switch {
		case c.want == "" && (!errors.Is(err, ErrEngine) || !strings.Contains(err.Error(), c.reason)):
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.reason)
		case c.want != "" && (err != nil || r.Engine.Name != c.want || !strings.Contains(r.Engine.Reason, c.reason)):
			t.Errorf("%s: %+v, %v, want %s: %s", c.name, r.Engine, err, c.want, c.reason)
		}
	}
}

// TestWhatAnotherEngineReplayedIsTold: the one that is taken then finds a clean journal.
func TestWhatAnotherEngineReplayedIsTold(t *testing.T) {
	for _, replayed := range []bool{true, false} {
		top := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1", Type: "ext4", Replayed: replayed}, {Device: "disk0p2", Type: "xfs"}}}
		r := &Run{Migration: &Migration{Options: Options{Engine: Auto}, Engine: Engine{Direct, "chosen first"}}, packaged: true, log: slog.New(slog.DiscardHandler)}
		r.guest = &partly{FS: tree.NewGuest(top, nil), closed: map[string]error{"disk0p2": fmt.Errorf("bit 31: %w", direct.ErrUnsupported)}}
		later := slices.Clone(top.Filesystems)
		later[0].Replayed = false
		system, err := tree.Parse(txtar.Parse([]byte("-- guest/etc/os-release --\nID=debian\nVERSION_ID=\"12\"\n-- guest/etc/fstab --\n/dev/sda1 / ext4 defaults 0 1\n-- guest/sbin/init --\n")), "guest/")
		if err != nil {
			t.Fatal(err)
		}
		r.engine = func(context.Context, string, *disk.Storage, accel.Choice, *slog.Logger) (guest.Guest, error) {
			return tree.NewGuest(guest.Topology{Filesystems: later}, map[string]*tree.FS{"disk0p1": system}), nil
		}
		if err := r.reconsider(t.Context()); err != nil || r.Engine.Name != Libguestfs {
			t.Fatalf("%+v, %v", r.Engine, err)
		}
		facts, err := r.look(t.Context(), nil)
		if err != nil || len(facts.Topology.Filesystems) != 2 || facts.Topology.Filesystems[0].Replayed != replayed || facts.Topology.Filesystems[1].Replayed {
			t.Errorf("%+v, %v", facts.Topology, err)
		}
		if later[0].Replayed {
			t.Error("the engine's own topology has changed")
		}
	}
}

// partly is a guest of which an engine does not show some file systems.
type partly struct {
	*tree.FS
	closed map[string]error
}

func (p *partly) Mount(device, at string) error {
	if err := p.closed[device]; err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return p.FS.Mount(device, at)
}

// worn is a guest whose engine has broken down, which no reading of files has told.
type worn struct{ *tree.FS }

var errWorn = errors.New("the engine broke down")

func (worn) Err() error { return errWorn }

func TestAnEngineThatBrokeDownGivesNoPlan(t *testing.T) {
	top := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1", Type: "ext4"}}}
	facts := inspect.Facts{Topology: top, Mounts: []inspect.Mount{{Device: "disk0p1", Path: "/"}}}
	for _, g := range []guest.Guest{tree.NewGuest(top, nil), worn{tree.NewGuest(top, nil)}} {
		r := &Run{Migration: &Migration{Facts: &facts}, guest: g, fixers: func() []fixer.Fixer { return nil }, log: slog.New(slog.DiscardHandler)}
		_, broken := g.(worn)
		if _, err := r.makePlan(t.Context(), facts, sizeBefore); errors.Is(err, errWorn) != broken || err != nil && !broken {
			t.Errorf("broken %v: error %v", broken, err)
		}
	}
}

// switched is which engine is taken after the direct one has shown a guest.
func switched(t *testing.T, g guest.Guest, asked string, packaged bool) (*Run, error) {
	t.Helper()
	r := &Run{Migration: &Migration{Options: Options{Engine: asked}, Engine: Engine{Direct, "chosen first"}}, packaged: packaged, log: slog.New(slog.DiscardHandler)}
	r.guest = g
	r.engine = func(_ context.Context, name string, _ *disk.Storage, _ accel.Choice, _ *slog.Logger) (guest.Guest, error) {
		return tree.NewGuest(g.Topology(), map[string]*tree.FS{}), nil
	}
	return r, r.reconsider(t.Context())
}

func TestTheEngineThatShowsAllIsTakenAtOnce(t *testing.T) {
	esp := guest.Disk{Name: "disk0", Table: "gpt", Partitions: []guest.Partition{{Name: "disk0p1", Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}, {Name: "disk0p2"}}}
	// closed is a guest of which one file system is not shown, for a reason.
	closed := func(device string, why error, types ...string) *partly {
		t := guest.Topology{Disks: []guest.Disk{esp}}
		for i, kind := range types {
			t.Filesystems = append(t.Filesystems, guest.Filesystem{Device: fmt.Sprintf("disk0p%d", i+1), Type: kind})
		}
		t.Filesystems = append(t.Filesystems, guest.Filesystem{Device: "vg/root", Type: "ext4"})
		return &partly{FS: tree.NewGuest(t, nil), closed: map[string]error{device: why}}
	}
	why, broken := fmt.Errorf("no mapper: %w", direct.ErrUnsupported), errors.New("broken")
	for _, c := range []struct {
		name     string
		guest    *partly
		asked    string
		packaged bool
		want     string
		reason   string
	}{
		{"all is shown", closed("", nil, "vfat", guest.LVMMember), Auto, true, Direct, "chosen first"},
		{"a volume is not shown", closed("vg/root", why, "ext4", guest.LVMMember), Auto, true, Libguestfs, "mount vg/root: no mapper"},
		{"an EFI system partition is not shown", closed("disk0p1", why, "vfat"), Auto, true, Libguestfs, "mount disk0p1: no mapper"},
		{"a file system is broken", closed("vg/root", broken), Auto, true, Direct, "chosen first"},
		{"FAT elsewhere is not shown", closed("disk0p2", why, "ext4", "vfat"), Auto, true, Direct, "chosen first"},
		{"neither may know it", closed("disk0p1", why, "jfs", "swap"), Auto, true, Direct, "chosen first"},
		{"the direct engine is asked for", closed("vg/root", why), Direct, true, Direct, "chosen first"},
		{"no other is in the build", closed("vg/root", why), Auto, false, Direct, "chosen first"},
	} {
		r, err := switched(t, c.guest, c.asked, c.packaged)
		if err != nil || r.Engine.Name != c.want || !strings.Contains(r.Engine.Reason, c.reason) {
			t.Errorf("%s: %+v, %v, want %s: %s", c.name, r.Engine, err, c.want, c.reason)
		}
	}
	for asked, want := range map[string]string{Direct: "leave the choice of the engine to the program", Auto: "use a build with libguestfs"} {
		r, err := switched(t, closed("vg/root", why), asked, asked == Direct)
		if err != nil {
			t.Fatal(err)
		}
		hinted := r.hint(inspect.ErrNoOS)
		if !errors.Is(hinted, inspect.ErrNoOS) || !strings.Contains(hinted.Error(), "mount vg/root: no mapper") || !strings.Contains(hinted.Error(), want) {
			t.Errorf("%s: the hint is %q", asked, hinted)
		}
	}
}

func TestALogicalVolumeIsExpectedOnTheDisksBeneath(t *testing.T) {
	f := inspect.Facts{
		Topology: guest.Topology{
			Disks: []guest.Disk{{Name: "disk0", Partitions: []guest.Partition{{Name: "disk0p1"}}}, {Name: "disk1"}},
			Volumes: []guest.Volume{{Name: "vg/root", On: []string{"disk1"}}, {Name: "vg/swap", On: []string{"disk0p1"}},
				{Name: "vg/data", On: []string{"disk0p1", "disk1"}}, {Name: "vg/mail", On: []string{"md/0"}},
				{Name: "md/0", On: []string{"disk0p1", "md/1"}, Array: &guest.Array{}}, {Name: "md/1", On: []string{"disk1"}, Array: &guest.Array{}}},
		},
		Mounts: []inspect.Mount{{Device: "vg/root", Path: "/"}, {Device: "vg/data", Path: "/srv"}, {Device: "vg/swap", Path: "none", Type: "swap"}},
	}
	e := expectations(f, f, machine.Machine{Disks: []machine.Disk{{Serial: "first"}, {Serial: "second"}}})
	if !slices.Equal(e.Roots, []string{"second"}) || !slices.Equal(e.Mounts, []testers.Mount{{Path: "/srv"}}) || e.Swaps != 1 {
		t.Errorf("expectations = %+v", e)
	}
	f.Mounts[0].Device = "md/0"
	if e := expectations(f, f, machine.Machine{Disks: []machine.Disk{{Serial: "first"}, {Serial: "second"}}}); !slices.Equal(e.Roots, []string{"first", "second"}) {
		t.Errorf("the root of an array is expected on %q", e.Roots)
	}
	for _, device := range []string{"vg/data", "vg/mail", "md/0"} {
		if !onDisk(f, device, 0) || !onDisk(f, device, 1) {
			t.Errorf("%s is not on both disks", device)
		}
	}
}

func TestAnArraysStateIsTold(t *testing.T) {
	for want, v := range map[string]guest.Volume{
		"vg/root on disk0p1, disk1p1, 2 MiB":                                                                {Name: "vg/root"},
		"md/0 on disk0p1, disk1p1, 2 MiB, raid1, md 1.2":                                                    {Name: "md/0", Array: &guest.Array{Kind: "raid1", Version: "1.2"}},
		"md/0 on disk0p1, disk1p1, 2 MiB, raid1, md 0.90, lacks 1 members, fallen out disk2, not shut down": {Name: "md/0", Array: &guest.Array{Kind: "raid1", Version: "0.90", Lacks: 1, Stale: []string{"disk2"}, Dirty: true}},
		"vg/root on disk0p1, disk1p1, 2 MiB: a snapshot of x":                                               {Name: "vg/root", Problem: "a snapshot of x"},
		"luks/u on disk0p1, disk1p1, 2 MiB, LUKS 2, aes-xts-plain64: no key":                                {Name: "luks/u", Crypt: &guest.Crypt{Version: 2, Cipher: "aes-xts-plain64"}, Problem: "no key"},
		"vg/root on disk0p1, disk1p1, 2 MiB: left to md":                                                    {Name: "vg/root", Unsupported: "left to md"},
	} {
		v.On, v.Size = []string{"disk0p1", "disk1p1"}, 2<<20
		if got := volumeText(v); got != want {
			t.Errorf("volumeText = %q, want %q", got, want)
		}
	}
}

func TestWhatTheDirectEngineDoesNotOpenIsToldFirst(t *testing.T) {
	g := tree.NewGuest(guest.Topology{Volumes: []guest.Volume{{Name: "md/five", Unsupported: "left to md"}}}, nil)
	if why, err := closedToDirect(g); why != "md/five: left to md" || err != nil {
		t.Errorf("closedToDirect = %q, %v", why, err)
	}
}

func TestAKeyIsAskedForAgain(t *testing.T) {
	now := guest.Topology{Volumes: []guest.Volume{{Name: "luks/u", On: []string{"disk0p3"}, Crypt: &guest.Crypt{}, Problem: "no key"}}}
	g := tree.NewGuest(now, nil)
	open := inspect.Facts{Topology: guest.Topology{Volumes: now.Volumes, Filesystems: []guest.Filesystem{{Device: "luks/u", Type: "ext4"}}}}
	err := (&Run{}).remount(t.Context(), g, open)
	if !errors.Is(err, guest.ErrKey) || !strings.Contains(err.Error(), "disk0p3") || !strings.Contains(err.Error(), "--key") {
		t.Errorf("remount = %v", err)
	}
	closed := inspect.Facts{Topology: now}
	if err := (&Run{}).remount(t.Context(), g, closed); errors.Is(err, guest.ErrKey) {
		t.Errorf("remount of what was closed before = %v", err)
	}
}

func TestCapsAreWhatEveryKernelCanUse(t *testing.T) {
	kernel := func(drivers ...string) inspect.Kernel {
		k := inspect.Kernel{Drivers: map[string]inspect.Where{}}
		for _, d := range drivers {
			name, where, ok := strings.Cut(d, "=")
			if !ok {
				where = string(inspect.InInitrd)
			}
			k.Drivers[name] = inspect.Where(where)
		}
		return k
	}
	full := kernel("virtio_pci", "virtio_blk", "virtio_net=modules", "virtio_rng=builtin", "virtio_balloon=modules")
	for _, c := range []struct {
		name    string
		kernels []inspect.Kernel
		want    machine.Caps
	}{
		{"all of it", []inspect.Kernel{full}, machine.Caps{DiskBus: "virtio", NICModel: "virtio", RNG: true, Balloon: true}},
		{"no kernel", nil, machine.Caps{DiskBus: "sata", NICModel: "e1000e"}},
		{"one of two kernels", []inspect.Kernel{full, kernel()}, machine.Caps{DiskBus: "sata", NICModel: "e1000e"}},
		{"virtio_blk too late for the root", []inspect.Kernel{kernel("virtio_pci", "virtio_blk=modules", "virtio_net=modules")}, machine.Caps{DiskBus: "sata", NICModel: "virtio"}},
		{"virtio-scsi alone", []inspect.Kernel{kernel("virtio_pci", "virtio_scsi", "sd_mod")}, machine.Caps{DiskBus: "scsi", NICModel: "e1000e"}},
	} {
		if d := cmp.Diff(c.want, capsOf(inspect.Facts{Kernels: c.kernels}, machine.Machine{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	m := machine.Machine{Firmware: machine.UEFI, SecureBoot: true}
	if got := capsOf(inspect.Facts{}, m); got.Firmware != machine.UEFI || !got.SecureBoot {
		t.Errorf("capsOf a UEFI machine = %+v", got)
	}
}

func TestAProofAsksForWhatTheGuestIsConfiguredFor(t *testing.T) {
	const one, two = "00:50:56:00:00:01", "00:50:56:00:00:02"
	address, gateway := netip.MustParsePrefix("192.0.2.5/24"), netip.MustParseAddr("192.0.2.1")
	static := func(name, mac string) inspect.Interface {
		return inspect.Interface{Name: name, MAC: mac, Method: "static", Addresses: []netip.Prefix{address}, Gateway: gateway}
	}
	want := lan.Expect{MAC: one, Static: []netip.Prefix{address}, Gateway: gateway}
	for _, c := range []struct {
		name       string
		macs       []string
		interfaces []inspect.Interface
		pins       []inspect.Pin
		want       []lan.Expect
	}{
		{"by the configuration's MAC", []string{one, two}, []inspect.Interface{static("x", one), {Name: "y", MAC: two, Method: "dhcp"}}, nil,
			[]lan.Expect{want, {MAC: two, DHCP: true}}},
		{"by a rule's", []string{one, two}, []inspect.Interface{static("lan0", "")}, []inspect.Pin{{Name: "lan0", MAC: one}}, []lan.Expect{want, {MAC: two}}},
		{"the only one", []string{one}, []inspect.Interface{{Name: "lo", Method: "static"}, static("ens192", "")}, nil, []lan.Expect{want}},
		{"which of two cannot be told", []string{one, two}, []inspect.Interface{static("ens192", "")}, nil, []lan.Expect{{MAC: one}, {MAC: two}}},
		{"the only one, pinned to another card", []string{one}, []inspect.Interface{static("lan0", "")}, []inspect.Pin{{Name: "lan0", MAC: two}}, []lan.Expect{{MAC: one}}},
	} {
		m := machine.Machine{}
		for _, mac := range c.macs {
			m.NICs = append(m.NICs, machine.NIC{MAC: mac})
		}
		f := inspect.Facts{Network: inspect.Network{Interfaces: c.interfaces, Pins: c.pins}}
		if d := cmp.Diff(c.want, expectations(f, f, m).NICs, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// networkOf is what a guest with these files configures.
func networkOf(t *testing.T, archive string) inspect.Network {
	t.Helper()
	files, err := tree.Parse(txtar.Parse([]byte(archive)), "x")
	if err != nil {
		t.Fatal(err)
	}
	n, problems := inspect.ReadNetwork(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return n
}

const (
	nmProfile = "-- x/etc/NetworkManager/system-connections/%s mode=0600 --\n[connection]\nid=%[1]s\nuuid=%[1]s\ntype=%s\n%s\n"
	netplan   = "-- x/usr/lib/systemd/system-generators/netplan -> /x --\n-- x/etc/netplan/a.yaml --\nnetwork:\n"
)

func TestAProofAsksEachCardForWhatItHas(t *testing.T) {
	one, two := machine.NIC{MAC: "00:50:56:00:00:01", Slot: 192, Model: "vmxnet3"}, machine.NIC{MAC: "00:50:56:00:00:02", Slot: 224, Model: "vmxnet3"}
	for _, c := range []struct {
		name, files string
		nics        []machine.NIC
		want        []string // of each card, what is expected and how much is not asked
		mayFail     []string
	}{
		{"two cards, a way out through one", netplan + "  ethernets:\n    ens192: {addresses: [192.0.2.10/24, \"2001:db8::10/64\"], routes: [{to: default, via: 192.0.2.1}, {to: default, via: \"2001:db8::1\"}]}\n    ens224: {addresses: [198.51.100.10/24]}\n",
			[]machine.NIC{one, two}, []string{"[192.0.2.10/24 2001:db8::10/64] 192.0.2.1 2001:db8::1 lease=false open=0", "[198.51.100.10/24] - - lease=false open=0"}, nil},
		{"leases by NetworkManager, of any card and of one", fmt.Sprintf(nmProfile, "a", "ethernet", "[ipv4]\nmethod=auto") + fmt.Sprintf(nmProfile, "b", "ethernet", "autoconnect-priority=1\ninterface-name=ens224\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24"),
			[]machine.NIC{one, two}, []string{"[] - - lease=true open=0", "[192.0.2.5/24] - - lease=false open=0"}, nil},
		{"one profile for any of two cards", fmt.Sprintf(nmProfile, "a", "ethernet", "[ipv4]\nmethod=auto"), []machine.NIC{one, two}, []string{"[] - - lease=false open=1", "[] - - lease=false open=1"}, nil},
		{"the profile that was used last", fmt.Sprintf(nmProfile, "a", "ethernet", "interface-name=ens192\n[ipv4]\nmethod=auto") + fmt.Sprintf(nmProfile, "b", "ethernet", "interface-name=ens192\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24") +
			"-- x/var/lib/NetworkManager/timestamps --\n[timestamps]\na=1\nb=2\n", []machine.NIC{one}, []string{"[192.0.2.5/24] - - lease=false open=0"}, nil},
		{"the profile that is preferred, though it was used before the other", fmt.Sprintf(nmProfile, "a", "ethernet", "autoconnect-priority=5\ninterface-name=ens192\n[ipv4]\nmethod=auto") + fmt.Sprintf(nmProfile, "b", "ethernet", "interface-name=ens192\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24") +
			"-- x/var/lib/NetworkManager/timestamps --\n[timestamps]\na=1\nb=2\n", []machine.NIC{one}, []string{"[] - - lease=true open=0"}, nil},
		{"a configuration of another slot", fmt.Sprintf(nmProfile, "a", "ethernet", "interface-name=ens224\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24"), []machine.NIC{one}, []string{"[] - - lease=false open=0"}, nil},
		{"of another slot, which the boot waits for", "-- x/etc/systemd/network/a.network --\n[Match]\nName=ens224\n[Network]\nDHCP=yes\n-- x/etc/network/interfaces --\nauto ens256\niface ens256 inet dhcp\niface ens161 inet dhcp\n", []machine.NIC{one}, []string{"[] - - lease=false open=0"},
			[]string{"networking.service", "systemd-networkd-wait-online.service"}},
		{"a slot that is not known", fmt.Sprintf(nmProfile, "a", "ethernet", "interface-name=ens224\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24"), []machine.NIC{{MAC: one.MAC}}, []string{"[192.0.2.5/24] - - lease=false open=0"}, nil},
		{"a bridge and a VLAN on it", netplan + "  ethernets:\n    ens192: {}\n  bridges:\n    br0: {interfaces: [ens192], addresses: [192.0.2.5/24], gateway4: 192.0.2.1}\n  vlans:\n    v7: {id: 7, link: br0, addresses: [198.51.100.5/24]}\n", []machine.NIC{one},
			[]string{"[192.0.2.5/24] 192.0.2.1 - lease=false open=1"}, nil},
		{"a bond of two cards, with a VLAN", netplan + "  ethernets:\n    ens192: {}\n    ens224: {}\n  bonds:\n    b: {interfaces: [ens192, ens224], dhcp4: true}\n  vlans:\n    v7: {id: 7, link: b, addresses: [198.51.100.5/24]}\n", []machine.NIC{one, two},
			[]string{"[] - - lease=false open=2", "[] - - lease=false open=2"}, nil},
		{"VLANs on a card without a configuration of its own", "-- x/etc/network/interfaces --\nauto ens192.7 ens192.8\niface ens192.7 inet static\n address 192.0.2.5/24\niface ens192.8 inet dhcp\n", []machine.NIC{one}, []string{"[] - - lease=false open=2"}, nil},
		{"a port that says its bridge's ID, by its MAC", fmt.Sprintf(nmProfile, "u1", "bridge", "interface-name=br0\n[ipv4]\nmethod=auto") + fmt.Sprintf(nmProfile, "u2", "ethernet", "controller=u1\n[ethernet]\nmac-address=00:50:56:00:00:02"), []machine.NIC{one, two},
			[]string{"[] - - lease=false open=0", "[] - - lease=true open=0"}, nil},
		{"not brought up, and IPv6 from routers", "-- x/etc/network/interfaces --\nauto ens224\niface ens192 inet static\n address 192.0.2.5/24\niface ens224 inet6 auto\n", []machine.NIC{one, two}, []string{"[] - - lease=false open=1", "[] - - lease=false open=1"}, nil},
		{"the first of networkd's files", "-- x/etc/systemd/network/20-all.network --\n[Match]\nName=en*\n[Network]\nDHCP=yes\n-- x/etc/systemd/network/10-lan.network --\n[Match]\nName=ens192\n[Network]\nAddress=192.0.2.5/24\n", []machine.NIC{one, two},
			[]string{"[192.0.2.5/24] - - lease=false open=0", "[] - - lease=true open=0"}, nil},
		{"one of networkd's files for two MACs, one of a card that is gone", "-- x/etc/systemd/network/a.network --\n[Match]\nMACAddress=00:50:56:00:00:09 00-50-56-00-00-02\nPermanentMACAddress=00:50:56:00:00:02\n[Network]\nDHCP=ipv4\n", []machine.NIC{one, two},
			[]string{"[] - - lease=false open=0", "[] - - lease=true open=0"}, nil},
		{"netplan's file before networkd's", netplan + "  ethernets:\n    ens192: {addresses: [192.0.2.5/24]}\n-- x/etc/systemd/network/20-all.network --\n[Match]\nName=*\n[Network]\nDHCP=yes\n-- x/etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /x --\n", []machine.NIC{one},
			[]string{"[192.0.2.5/24] - - lease=false open=0"}, nil},
		{"stanzas of both families", "-- x/etc/network/interfaces --\nauto ens192\niface ens192 inet dhcp\niface ens192 inet6 static\n address 2001:db8::5/64\n gateway fe80::1\niface ens192:1 inet static\n address 192.0.2.9/24\nauto ens192:1\n", []machine.NIC{one}, []string{"[2001:db8::5/64 192.0.2.9/24] - fe80::1 lease=true open=0"}, nil},
		{"by driver, before and after it is mended", netplan + "  ethernets:\n    a: {match: {driver: vmxnet3}, dhcp4: true}\n", []machine.NIC{one, {MAC: two.MAC, Model: "e1000", Slot: 33}}, []string{"[] - - lease=true open=0", "[] - - lease=false open=0"}, nil},
		{"by place", fmt.Sprintf(nmProfile, "a", "ethernet", "[match]\npath=pci-0000:13:00.0;\n[ipv4]\nmethod=auto"), []machine.NIC{one, two}, []string{"[] - - lease=false open=0", "[] - - lease=true open=0"}, nil},
	} {
		f := inspect.Facts{Network: networkOf(t, c.files)}
		e := expectations(f, f, machine.Machine{NICs: c.nics})
		var got []string
		for _, n := range e.NICs {
			gates := strings.ReplaceAll(fmt.Sprint(n.Gateway, " ", n.Gateway6), "invalid IP", "-")
			got = append(got, fmt.Sprintf("%v %s lease=%v open=%d", n.Static, gates, n.DHCP, len(n.Unasked)))
			if autoOnly := len(n.Unasked) == 0 || strings.HasPrefix(c.name, "not brought up") && n.MAC == two.MAC; n.OtherWays == autoOnly {
				t.Errorf("%s: %s may have other ways out: %v, not asked: %q", c.name, n.MAC, n.OtherWays, n.Unasked)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
		if d := cmp.Diff(c.mayFail, e.MayFail); d != "" {
			t.Errorf("%s: may fail (-want +got):\n%s", c.name, d)
		}
	}
}

func TestAProofAsksForTheRootsDisk(t *testing.T) {
	f := inspect.Facts{OS: inspect.OS{Hostname: "web01", MachineID: "m1"}, Mounts: []inspect.Mount{{Device: "disk1p2", Path: "/", Options: "ro"}},
		Topology: guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk1p2", UUID: "u1"}}, Disks: []guest.Disk{{Name: "disk0"}, {Name: "disk1", Partitions: []guest.Partition{{Name: "disk1p1"}, {Name: "disk1p2"}}}}}}
	m := machine.Machine{Disks: []machine.Disk{{Serial: "a", Size: 1}, {Serial: "b", Size: 2}}}
	want := testers.Expect{Hostname: "web01", MachineID: "m1", Roots: []string{"b"}, RootUUID: "u1", ReadOnly: true, Disks: []testers.Disk{{Serial: "a", Size: 1}, {Serial: "b", Size: 2}}}
	if d := cmp.Diff(want, expectations(f, f, m), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}

func TestAProofAsksForWhatFstabMounts(t *testing.T) {
	f := inspect.Facts{Mounts: []inspect.Mount{
		{Device: "disk0p1", Path: "/", Type: "ext4"},
		{Device: "disk1p1", Path: "/srv", Type: "xfs", Options: "defaults,nofail"},
		{Device: "disk2p1", Path: "/backup", Type: "ext4", Options: "noauto"},
		{Device: "disk2p2", Path: "/home", Type: "ext4", Options: "x-systemd.automount"},
		{Path: "/lost", Type: "ext4", Options: "nofail"},
		{Device: "disk0p2", Path: "none", Type: "swap"},
		{Device: "disk0p2", Path: "none", Type: "swap"},
		{Device: "disk3", Path: "/media", Type: "auto", Options: "nofail"},
		{Device: "disk4", Path: "/keep", Type: "ext4", Options: "ro,nofail"},
	}, Topology: guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk1p1", Type: "xfs", UUID: "u1"}, {Device: "disk3", Type: "iso9660", UUID: "u3"}}}}
	want := []testers.Mount{{Path: "/srv", UUID: "u1"}, {Path: "/media", UUID: "u3", ReadOnly: true}, {Path: "/keep", ReadOnly: true}}
	e := expectations(f, f, machine.Machine{})
	if !slices.Equal(e.Mounts, want) || e.Swaps != 1 {
		t.Errorf("mounts = %+v, %d swaps, want %+v and 1", e.Mounts, e.Swaps, want)
	}
}

// onSubvolumes is a guest on a btrfs with a snapshot, mounted thrice.
func onSubvolumes() inspect.Facts {
	return inspect.Facts{
		Topology: guest.Topology{Disks: []guest.Disk{{Name: "disk0"}}, Filesystems: []guest.Filesystem{{Device: "disk0", Type: "btrfs", UUID: "u1", Subvolumes: []guest.Subvolume{
			{ID: 5, Path: "/", Default: true}, {ID: 256, Path: "/@"}, {ID: 257, Path: "/@home"}, {ID: 258, Path: "/@old", ReadOnly: true}}}}},
		Mounts: []inspect.Mount{{Device: "disk0", Path: "/", Subvolume: 256}, {Device: "disk0", Path: "/home", Subvolume: 257}, {Device: "disk0", Path: "/old", Subvolume: 258}},
	}
}

func TestAProofAsksForTheSubvolumesThatAreMounted(t *testing.T) {
	f := onSubvolumes()
	e := expectations(f, f, machine.Machine{})
	want := []testers.Mount{{Path: "/home", UUID: "u1", Subvolume: 257}, {Path: "/old", UUID: "u1", Subvolume: 258, ReadOnly: true}}
	if e.RootUUID != "u1" || e.RootSubvolume != 256 || e.ReadOnly || !slices.Equal(e.Mounts, want) {
		t.Errorf("expectations = %+v", e)
	}
	if got := mounted(f); !slices.Equal(got, []string{"disk0"}) {
		t.Errorf("mounted = %q: a file system is checked once", got)
	}
	if got := writtenTo(f, []guest.Change{{Path: "/etc/fstab"}, {Path: "/home/x"}}); !slices.Equal(got, []string{"disk0"}) {
		t.Errorf("writtenTo = %q", got)
	}
}

func TestSubvolumesAreAmongTheFacts(t *testing.T) {
	text := FactsText(onSubvolumes(), machine.Machine{})
	for _, want := range []string{`disk0 btrfs u1 "", 4 subvolumes (1 read-only, / by default)`, "disk0[/@home] on /home", "disk0[/@] on / "} {
		if !strings.Contains(text, want) {
			t.Errorf("FactsText lacks %q:\n%s", want, text)
		}
	}
}

func TestWhatWasLostWhileTheGuestWasFixedIsAskedFor(t *testing.T) {
	static := func(a string) inspect.Network {
		return inspect.Network{Interfaces: []inspect.Interface{{Name: "ens192", Method: "static", Addresses: []netip.Prefix{netip.MustParsePrefix(a)}}}}
	}
	found := inspect.Facts{OS: inspect.OS{Hostname: "web01"}, Network: static("192.0.2.10/24"), Mounts: []inspect.Mount{{Device: "disk0p1", Path: "/srv"}}}
	m := machine.Machine{NICs: []machine.NIC{{MAC: "00:50:56:01:02:03"}}}
	for _, c := range []struct {
		why   string
		fixed inspect.Facts
		want  string
	}{
		{"its network", inspect.Facts{OS: inspect.OS{Hostname: "localhost"}}, "192.0.2.10/24"},
		{"nothing: its network was changed on purpose", inspect.Facts{Network: static("198.51.100.10/24"),
			Mounts: []inspect.Mount{{Device: "disk0p1", Path: "/srv"}}}, "198.51.100.10/24"},
	} {
		c.fixed.Mounts = append(c.fixed.Mounts, inspect.Mount{Device: "disk1p1", Path: "/opt"}) // known by its name at last
		e := expectations(found, c.fixed, m)
		if e.Hostname != "web01" || len(e.Mounts) != 2 || e.Mounts[0].Path != "/srv" || e.Mounts[1].Path != "/opt" || len(e.NICs[0].Static) != 1 || e.NICs[0].Static[0].String() != c.want {
			t.Errorf("a guest that lost %s must be %+v, want web01 with /srv, /opt and %s", c.why, e, c.want)
		}
	}
}

func TestGuessedNICsAreBounded(t *testing.T) {
	r := &Run{Migration: &Migration{Name: "x", Machine: machine.Machine{Source: "guess"}, Facts: &inspect.Facts{}}}
	for i := range 1000 {
		r.Facts.Network.Pins = append(r.Facts.Network.Pins, inspect.Pin{MAC: madeUpMAC(strings.Repeat("x", i))})
	}
	if r.guessNICs(); len(r.Machine.NICs) != maxNICs {
		t.Errorf("%d NICs, want %d", len(r.Machine.NICs), maxNICs)
	}
}

func TestFolderNamesTripNobody(t *testing.T) {
	for source, want := range map[string]string{
		"/vms/web01.vmdk":           "web01",
		"/vms/Web Server (old).vmx": "Web-Server-old",
		"/dev/sdb":                  "sdb",
		"-rf.raw":                   "rf",
		"a,b:c%d\ne.raw":            "a-b-c-d-e",
		"/x/.vmdk":                  "guest",
		"..":                        "guest",
		"/x/ümläut.raw":             "ml-ut",
		"/x/" + strings.Repeat("a", 250) + ".vmdk": strings.Repeat("a", 100),
	} {
		if got := FolderName(source); got != want {
			t.Errorf("FolderName(%q) = %q, want %q", source, got, want)
		}
	}
}

func TestWhatAGuestSaysCommandsNoTerminal(t *testing.T) {
	const hostile = "a\x1b]0;owned\x07\r\x9b\xff\u202eb\nc\td\u00e9"
	if got, want := Printable(hostile), "a\\x1b]0;owned\\x07\\x0d\\x9b\\xff\\u202eb\nc\td\u00e9"; got != want {
		t.Errorf("Printable = %q, want %q", got, want)
	}
	if got, want := Line(hostile), `a\x1b]0;owned\x07\x0d\x9b\xff\u202eb\nc`+"\td\u00e9"; got != want {
		t.Errorf("Line = %q, want %q", got, want)
	}
}

// hostilePlan holds what a guest may put into names, texts and diffs.
func hostilePlan() fixers.Plan {
	return fixers.Plan{
		Changes: []guest.Change{
			{Fixer: "linux/a", Why: "because", Path: "/etc/x\ny", Diff: "diff a b\n--- a\n+++ b\n@@ -1 +1 @@\n-\x1b[2J\n+```\n"},
			{Fixer: "linux/a", Why: "because", Path: "/boot/i", Diff: "1 driver appended"},
		},
		Concerns: []fixer.Concern{{Level: fixer.Blocker, Code: "linux/c", Text: "odd\nBLOCKER none", Try: "this"}},
		Skipped:  []fixers.Skip{{Fixer: "linux/b", Reason: "nothing to change"}},
	}
}

func TestAPlanReadsAsOne(t *testing.T) {
	want := `BLOCKER linux/c: odd\nBLOCKER none
  try: this

# linux/a: because
diff a b
--- a
+++ b
@@ -1 +1 @@
-\x1b[2J
+` + "```" + `
/boot/i: 1 driver appended

2 changes
# linux/b: nothing to change
`
	if d := cmp.Diff(want, PlanText(hostilePlan())); d != "" {
		t.Errorf("PlanText (-want +got):\n%s", d)
	}
}

func TestFactsOfAGuestAreOneLineEach(t *testing.T) {
	f := inspect.Facts{OS: inspect.OS{Name: "Evil\nroot mounted\x1b[1A", Source: "/etc/os-release"}}
	text := FactsText(f, machine.Machine{Name: "m", Source: "guess"})
	if lines := strings.Count(text, "\n"); lines != 4 || strings.ContainsRune(text, '\x1b') {
		t.Errorf("FactsText has %d lines, want 4:\n%q", lines, text)
	}
}

func TestTheReportHoldsWhatHappened(t *testing.T) {
	plan := hostilePlan()
	r := Report{Versions: map[string]string{"qemu-img": "7.2"}, Migration: &Migration{
		Name: "web01", Options: Options{Source: "/vms/a`b|c.vmx"}, Plan: &plan, Again: &fixers.Plan{},
		Facts:  &inspect.Facts{OS: inspect.OS{Name: "<img src=x>|"}},
		Stages: []Record{{Name: "fetch", State: Done}, {Name: "convert", State: Skipped, Reason: "rehearsal"}},
		Disks:  []transfer.Result{{Path: "/x/web01-disk0.qcow2", Format: "qcow2", Size: 7, Allocated: 3, Content: "abc"}},
		Outcome: &testers.Outcome{Cause: "login: <b>no</b>\nline", LastWords: "````\x1b[2Jpanic", Differences: []string{"CPU model max"}, Unasked: []string{"the network"},
			Answers: []testers.Answer{{Name: "boot", OK: true, Evidence: "up"}, {Name: "net", Evidence: "no | address"}}},
	}}
	text := r.Markdown()
	for _, want := range []string{
		"# web01\n\n**Not proved** to boot: login: &lt;b>no&lt;/b> line\n",
		"| source | ``/vms/a`b\\|c.vmx`` |",
		"&lt;img src=x>\\|",
		"| convert | skipped | 0s | rehearsal |",
		"| boot | yes | up |", `| net | **no** | no \| address |`,
		"`````\n````\\x1b[2Jpanic\n`````\n",
		"| `/x/web01-disk0.qcow2` | qcow2 | 7 | 3 | abc |",
		"````diff\n", "Planning again after FIX gave 0 changes.", "- qemu-img: 7.2\n", "\n- CPU model max\n", "**Not asked:** the network\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.ContainsAny(text, "\x1b\x07\r") {
		t.Error("the report holds control characters of the guest")
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestTheVerdictIsTheWorstThatIsKnown(t *testing.T) {
	failed := []Record{{Name: "fix", State: Failed, Reason: "conflict"}}
	for want, m := range map[string]Migration{
		"**Proved**":                {Outcome: &testers.Outcome{Proved: true}},
		"**Not proved** to boot: x": {Outcome: &testers.Outcome{Cause: "x"}, Stages: failed},
		"**Failed** in fix":         {Stages: failed},
		"**Not tested.**":           {},
		"**Undone**":                {Undone: true},
	} {
		if got := (Report{Migration: &m}).verdict(); !strings.HasPrefix(got, want) {
			t.Errorf("verdict of %+v = %q, want %q", m, got, want)
		}
	}
}

func TestBlockersAreAllNamed(t *testing.T) {
	r := &Run{Migration: &Migration{}}
	if err := r.Blocker(); err != nil {
		t.Errorf("without a plan: %v", err)
	}
	plan := hostilePlan()
	r.Plan = &plan
	if err := r.Blocker(); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "linux/c: odd") {
		t.Errorf("Blocker = %v", err)
	}
}

func TestPlanningAgainTellsWhatDidNotSettle(t *testing.T) {
	known := fixer.Concern{Level: fixer.Warning, Code: "old"}
	before := fixers.Plan{Concerns: []fixer.Concern{known}}
	if got := unsettled(before, fixers.Plan{Concerns: []fixer.Concern{known, {Level: fixer.Info, Code: "i"}}}); len(got) > 0 {
		t.Errorf("unsettled = %+v, want nothing", got)
	}
	again := hostilePlan()
	var codes []string
	for _, c := range unsettled(before, again) {
		codes = append(codes, c.Code)
	}
	if d := cmp.Diff([]string{"fix/not-settled", "fix/new-concern"}, codes); d != "" {
		t.Error(d)
	}
}

// An approval does not make a guest boot: a blocker is taken out of the plan, or
// its cause out of the guest.
func TestAnApprovedPlanWithABlockerIsBlocked(t *testing.T) {
	plan := hostilePlan()
	r := &Run{Migration: &Migration{Facts: &inspect.Facts{}, Options: Options{Plan: &plan}}}
	if err := r.plan(t.Context()); !errors.Is(err, ErrBlocked) {
		t.Errorf("plan = %v, want %v", err, ErrBlocked)
	}
	r.Plan.Concerns = append(r.Plan.Concerns, fixer.Concern{Code: "fix/new-concern"})
	if !r.Options.same(Options{Plan: func() *fixers.Plan { p := hostilePlan(); return &p }()}) {
		t.Error("what FIX adds to the plan changed the approved one")
	}
}

func TestAReplayedJournalIsAmongTheFacts(t *testing.T) {
	f := inspect.Facts{Topology: guest.Topology{Filesystems: []guest.Filesystem{
		{Device: "disk0p1", Type: "ext4", UUID: "u1", Replayed: true}, {Device: "disk0p2", Type: "xfs", UUID: "u2"}}}}
	text := FactsText(f, machine.Machine{})
	for _, want := range []string{"disk0p1 ext4 u1 \"\", its journal was replayed on the overlay\n", "disk0p2 xfs u2 \"\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("FactsText lacks %q:\n%s", want, text)
		}
	}
}
