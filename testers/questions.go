package testers

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"hyper2kvm/testers/probe"
	"hyper2kvm/testers/probe/wire"
)

// question is what is asked of each boot with the probe, before and after the
// reboot.
type question func(e Expect, b Boot) (ok bool, evidence string)

// perBoot are the questions that a single boot answers.
var perBoot = []question{targetReached, reported(rootMounted), reported(disksPresent), reported(nicsPresent),
	reported(mountsPresent), reported(nothingFailed), reported(addressesConfigured), reported(gatewaysReached),
	networkWitnessed, reported(identityKept), clockKept}

// reported asks the newest report of a boot; without one there is no answer.
func reported(ask func(Expect, Boot, probe.Received) (bool, string)) question {
	return func(e Expect, b Boot) (bool, string) {
		r, ok := b.Last()
		if !ok {
			return false, "no report"
		}
		return ask(e, b, r)
	}
}

func targetReached(_ Expect, b Boot) (bool, string) {
	r, ok := b.Last()
	if !ok {
		return false, unreported(b)
	}
	switch {
	case r.Kind == wire.Emergency:
		return false, "the guest is in emergency mode: " + sentence(append(telling(r.Journal), r.Failed...))
	case r.Kind == wire.Reached && !slices.Contains(upStates, r.State):
		return false, fmt.Sprintf("%s was active, but the system is %s", r.Target, cmp.Or(r.State, "not to be asked"))
	case r.Kind == wire.Reached:
		return true, fmt.Sprintf("%s after %.0f s, system %s", r.Target, r.Uptime, r.State)
	}
	return false, fmt.Sprintf("%s is not active after %.0f s; waiting for: %s", r.Target, r.Uptime, sentence(running(r.Jobs)))
}

// unreported is why a boot's probe never reported, as far as signs tell.
func unreported(b Boot) string {
	if sign, fatal := Fatal(b.Signs); fatal {
		return sign.String()
	}
	i := slices.IndexFunc(b.Signs, func(s Sign) bool { return s.Name != LoginPrompt })
	if i < 0 {
		return "no report"
	}
	return "no report, and " + b.Signs[i].String()
}

// upStates are the states of a system that is up, whatever may have failed, or
// that still starts what its target does not wait for.
//
// Source: systemctl(1), is-system-running.
var upStates = []string{"running", "degraded", "starting"}

// telling are the lines in which systemd says what did not come up: the units
// themselves did not fail when what they wait for never came.
func telling(journal []string) []string {
	var found []string
	for _, line := range journal {
		_, message, _ := strings.Cut(line, " systemd[1]: ")
		known := strings.HasPrefix(message, "Timed out waiting for") || strings.HasPrefix(message, "Dependency failed for") || strings.HasPrefix(message, "Failed to ")
		if known && len(found) < 4 {
			found = append(found, message)
		}
	}
	return found
}

// running are the jobs that the others wait for.
func running(jobs []string) []string {
	return slices.DeleteFunc(slices.Clone(jobs), func(j string) bool { return strings.HasSuffix(j, " waiting") })
}

// essential are the units without which a guest is broken, whatever else runs.
var essential = []string{
	"*.mount", "*.swap", "*.target", "systemd-*.service", "lvm2-*", "cryptsetup*", "systemd-cryptsetup@*", "mdadm*",
	"dbus*.service", "networking.service", "network.service", "ifup@*", "NetworkManager*.service", "wicked*.service",
	"netplan*", "ssh.service", "ssh.socket", "sshd.service", "kmod*.service", "udev*.service", "rc-local.service",
}

func nothingFailed(e Expect, _ Boot, r probe.Received) (bool, string) {
	var broken, tolerated []string
	for _, unit := range r.Failed {
		// What only a network serves cannot be there: the guest's leads nowhere.
		if isEssential(unit) && !slices.Contains(e.MayFail, unit) && !slices.Contains(r.Remote, unit) {
			broken = append(broken, unit)
			continue
		}
		tolerated = append(tolerated, unit)
	}
	if len(broken) > 0 {
		return false, "failed: " + sentence(broken)
	}
	if r.State == "degraded" && len(r.Failed) == 0 {
		return false, "the system is degraded, and does not say which units failed: " + cmp.Or(sentence(r.Trouble), "no reason")
	}
	if len(tolerated) > 0 {
		return true, "failed, and not essential: " + sentence(tolerated)
	}
	return true, "no unit failed"
}

func isEssential(unit string) bool {
	return slices.ContainsFunc(essential, func(pattern string) bool {
		ok, err := path.Match(pattern, unit)
		return ok && err == nil
	})
}

func rootMounted(e Expect, _ Boot, r probe.Received) (bool, string) {
	if !r.Root.Writable && !e.ReadOnly {
		return false, fmt.Sprintf("%s cannot be written to: %s", r.Root.Source, r.Root.WriteErr)
	}
	if isAnother(r.Root.UUID, e.RootUUID) {
		return false, fmt.Sprintf("/ is %s, the file system %s, not %s", r.Root.Source, r.Root.UUID, e.RootUUID)
	}
	if isOther(r.Root.Subvolume, e.RootSubvolume) {
		return false, fmt.Sprintf("/ is %s, the subvolume %d, not %d", r.Root.Source, r.Root.Subvolume, e.RootSubvolume)
	}
	var on []string
	missing := slices.Clone(e.Roots)
	for _, d := range r.Disks {
		if slices.Contains(r.Root.Disks, d.Name) && isExpectedRoot(e, d.Serial) {
			on = append(on, fmt.Sprintf("%s (%s, %s)", d.Name, d.Serial, strings.Join(d.Drivers, " < ")))
			missing = slices.DeleteFunc(missing, func(serial string) bool { return serial == d.Serial })
		}
	}
	switch {
	case len(on) == 0:
		return false, fmt.Sprintf("/ is %s on %s, not on the expected disk", r.Root.Source, strings.Join(r.Root.Disks, ", "))
	case len(missing) > 0: // a mirror goes on without one
		return false, fmt.Sprintf("/ is %s on %s, and not on %s", r.Root.Source, sentence(on), strings.Join(missing, ", "))
	}
	return true, fmt.Sprintf("/ is %s, %s with %d MiB, on %s", r.Root.Source, kind(r.Root.Type, r.Root.Subvolume), r.Root.Size>>20, sentence(on))
}

// isAnother compares the UUIDs of file systems, if both are known.
func isAnother(seen, expected string) bool {
	return seen != "" && expected != "" && !strings.EqualFold(seen, expected)
}

// kind tells of a file system what is seen of it.
func kind(fstype string, subvolume uint64) string {
	if subvolume == 0 {
		return fstype
	}
	return fmt.Sprintf("%s subvolume %d", fstype, subvolume)
}

// isOther compares the IDs of subvolumes, likewise: kernels before Linux 4.2 do not
// tell them.
func isOther(seen, expected uint64) bool {
	return seen != 0 && expected != 0 && seen != expected
}

func isExpectedRoot(e Expect, serial string) bool {
	if len(e.Roots) > 0 {
		return slices.Contains(e.Roots, serial)
	}
	return slices.ContainsFunc(e.Disks, func(d Disk) bool { return d.Serial == serial })
}

func disksPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.Disks {
		i := slices.IndexFunc(r.Disks, func(d wire.Disk) bool { return d.Serial == want.Serial })
		switch {
		case i < 0:
			missing = append(missing, want.Serial+" is missing")
		case want.Size != 0 && r.Disks[i].Size != want.Size:
			missing = append(missing, fmt.Sprintf("%s has %d bytes, not %d", want.Serial, r.Disks[i].Size, want.Size))
		default:
			found = append(found, want.Serial+" is "+r.Disks[i].Name)
		}
	}
	return len(missing) == 0, sentence(append(missing, found...))
}

func mountsPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.Mounts {
		m, ok := mountedAt(r.Mounts, want.Path)
		switch {
		case !ok:
			missing = append(missing, "nothing is mounted at "+want.Path)
		case isAnother(m.UUID, want.UUID):
			missing = append(missing, fmt.Sprintf("%s is %s, the file system %s, not %s", want.Path, m.Source, m.UUID, want.UUID))
		case isOther(m.Subvolume, want.Subvolume):
			missing = append(missing, fmt.Sprintf("%s is %s, the subvolume %d, not %d", want.Path, m.Source, m.Subvolume, want.Subvolume))
		case m.ReadOnly && !want.ReadOnly:
			missing = append(missing, fmt.Sprintf("%s, %s, cannot be written to", want.Path, m.Source))
		default:
			found = append(found, fmt.Sprintf("%s is %s, %s", want.Path, m.Source, kind(m.Type, m.Subvolume)))
		}
	}
	swaps := fmt.Sprintf("swap on %s, of %d expected", cmp.Or(strings.Join(r.Swaps, ", "), "no device"), e.Swaps)
	if len(r.Swaps) < e.Swaps {
		missing = append(missing, swaps)
	}
	if len(missing) > 0 {
		return false, sentence(missing)
	}
	return true, sentence(append(found, swaps))
}

// mountedAt is what is seen at a folder: the last that was mounted there.
func mountedAt(mounts []wire.Mount, path string) (wire.Mount, bool) {
	for _, m := range slices.Backward(mounts) {
		if m.Path == path {
			return m, true
		}
	}
	return wire.Mount{}, false
}

func nicsPresent(e Expect, _ Boot, r probe.Received) (bool, string) {
	var missing, found []string
	for _, want := range e.NICs {
		nic, ok := hardware(r.NICs, want.MAC)
		if !ok {
			missing = append(missing, want.MAC+" is missing")
			continue
		}
		found = append(found, fmt.Sprintf("%s is %s (%s)", want.MAC, nic.Name, nic.Driver))
	}
	return len(missing) == 0, sentence(append(missing, found...))
}

// hardware is the network interface with a MAC of its own that has a driver.
func hardware(nics []wire.NIC, mac string) (wire.NIC, bool) {
	i := slices.IndexFunc(nics, func(n wire.NIC) bool { return n.Driver != "" && cmp.Or(n.Permanent, n.MAC) == mac })
	if i < 0 {
		return wire.NIC{}, false
	}
	return nics[i], true
}

func identityKept(e Expect, _ Boot, r probe.Received) (bool, string) {
	if e.Hostname != "" && !sameHost(r.Hostname, e.Hostname) {
		return false, fmt.Sprintf("host name is %q, not %q", r.Hostname, e.Hostname)
	}
	if e.MachineID != "" && r.MachineID != e.MachineID {
		return false, fmt.Sprintf("machine ID is %q, not %q", r.MachineID, e.MachineID)
	}
	return true, fmt.Sprintf("host name %q, machine ID %q", r.Hostname, r.MachineID)
}

// sameHost compares first labels: /etc/hostname may or may not hold the domain.
func sameHost(a, b string) bool {
	a, _, _ = strings.Cut(a, ".")
	b, _, _ = strings.Cut(b, ".")
	return strings.EqualFold(a, b)
}
