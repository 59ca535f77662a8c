package testers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers/lan"
)

// Tester is one question asked of a booted guest.
type Tester struct {
	Name string // stable: boot-target-reached
	Why  string
	ask  func(e Expect, probed, clean Session) (ok bool, evidence string)
}

// All is every tester, in the order in which a boot gets there.
func All() []Tester {
	return []Tester{
		{"report-authentic", "a report that the probe did not sign proves nothing", reportsAuthentic},
		{"no-panic", "a kernel that panicked and was restarted is not well", noPanic},
		{"filesystems-clean", "a file system that was damaged on the way may boot today and lose data tomorrow", filesystemsClean},
		{"boot-target-reached", "only the boot target means that the guest is up", targetsReached},
		{"root-on-expected-disk", "the guest must run from the disk that was migrated, and be able to write to it", each(reported(rootMounted))},
		{"all-disks-present", "a data disk that is missing may not stop the boot", each(reported(disksPresent))},
		{"all-nics-present", "an interface without its driver may not stop the boot", each(reported(nicsPresent))},
		{"all-mounts-present", "fstab may let a boot go on without its data or its swap", each(reported(mountsPresent))},
		{"nothing-essential-failed", "a mount, a network or a system service that failed is a broken guest", each(reported(nothingFailed))},
		{"addresses-configured", "an interface that was renamed has lost its configuration", each(reported(addressesConfigured))},
		{"gateway-reached", "an address without its route serves nobody", each(reported(gatewaysReached))},
		{"network-witnessed-outside", "what a guest says of its own network is not a proof", each(networkWitnessed)},
		{"identity-kept", "a guest with another name or machine ID is another guest", each(reported(identityKept))},
		{"clock-kept", "a clock that is wrong or jumps breaks certificates, logs and databases", each(clockKept)},
		{"reboot-survived", "what was changed in memory alone is gone after a reboot", rebootSurvived},
		{"stayed-up", "a guest may come up and fail a moment later", stayedUp},
		{"clean-boot", "the guest that is delivered has no probe in it", cleanBoot},
	}
}

// each asks the same of the boots before and after the reboot.
func each(q question) func(Expect, Session, Session) (bool, string) {
	return func(e Expect, probed, _ Session) (bool, string) {
		if len(probed.Boots) == 0 {
			return false, "the guest was not booted"
		}
		var evidence string
		for i, b := range probed.Boots {
			ok, seen := q(e, b)
			if !ok {
				return false, fmt.Sprintf("boot %d: %s", i+1, seen)
			}
			evidence = seen
		}
		return true, evidence
	}
}

func reportsAuthentic(_ Expect, probed, _ Session) (bool, string) {
	n := 0
	for _, b := range probed.Boots {
		n += len(b.Reports)
	}
	if probed.Forged > 0 {
		return false, fmt.Sprintf("%s on the probe's port not signed with its key, or said before", plural(probed.Forged, "line"))
	}
	return true, plural(n, "signed report") + ", and nothing else on the probe's port"
}

// because says how a session ended when that explains what is missing.
func because(s Session) string {
	if s.End == Done || s.End == "" {
		return ""
	}
	return fmt.Sprintf(" (%s: %s)", s.End, cmp.Or(s.Detail, "no detail"))
}

// targetsReached says how the session ended where nobody lived to tell.
func targetsReached(e Expect, probed, _ Session) (bool, string) {
	ok, seen := each(targetReached)(e, probed, Session{})
	_, told, _ := strings.Cut(seen, ": ")
	if !ok && (told == "" || !strings.Contains(probed.Detail, told)) {
		seen += because(probed)
	}
	return ok, seen
}

// kernelDied is the flag of a kernel that went on after an oops or a BUG.
// Source: Linux, Documentation/admin-guide/tainted-kernels.rst.
const kernelDied = 1 << 7

func noPanic(_ Expect, probed, clean Session) (bool, string) {
	for _, s := range []Session{probed, clean} {
		if s.LostEvents > 0 {
			return false, plural(int(s.LostEvents), "event") + " of QEMU came too fast to be read, and a panic or a reset may be among them"
		}
		for _, b := range s.Boots {
			i := slices.IndexFunc(b.Signs, func(s Sign) bool { return s.Name == "kernel-panic" })
			if i >= 0 {
				return false, b.Signs[i].String()
			}
			if r, ok := b.Last(); ok && r.Tainted&kernelDied != 0 {
				return false, fmt.Sprintf("the kernel went on after an oops (tainted %d)", r.Tainted)
			}
		}
		for _, e := range s.Events {
			if e.Name == "GUEST_PANICKED" || e.Name == "GUEST_CRASHLOADED" {
				return false, "the guest's kernel panicked, QEMU reports: " + e.Name
			}
		}
	}
	return true, "none on serial, screen or the panic device"
}

// filesystemsClean asks the checkers' answers from before the machine was started.
func filesystemsClean(e Expect, probed, _ Session) (bool, string) {
	if len(probed.Filesystems) == 0 {
		return false, "no file system was looked at"
	}
	var broken, found []string
	for _, f := range probed.Filesystems {
		switch {
		case f.Damaged && !slices.Contains(e.Damaged, f.Device):
			broken = append(broken, fmt.Sprintf("%s (%s) is damaged: %s", f.Device, f.Type, f.Text))
		case f.Damaged:
			found = append(found, fmt.Sprintf("%s (%s) was damaged before the migration", f.Device, f.Type))
		case f.Clean:
			found = append(found, fmt.Sprintf("%s (%s) is clean", f.Device, f.Type))
		default:
			found = append(found, fmt.Sprintf("%s (%s) was not checked", f.Device, f.Type))
		}
	}
	return len(broken) == 0, sentence(append(broken, found...))
}

func rebootSurvived(_ Expect, probed, _ Session) (bool, string) {
	if len(probed.Boots) != 2 || probed.RebootAsked.IsZero() {
		return false, fmt.Sprintf("%s seen, want one before and one after a reboot%s", plural(len(probed.Boots), "boot"), because(probed))
	}
	if !slices.ContainsFunc(probed.Events, isReset(probed)) {
		return false, "QEMU saw no reset after the guest was told to reboot"
	}
	first, ok1 := probed.Boots[0].Last()
	second, ok2 := probed.Boots[1].Last()
	if !ok1 || !ok2 {
		return false, "no report from after the reboot" + because(probed)
	}
	if first.BootID == second.BootID || second.BootID == "" {
		return false, fmt.Sprintf("boot ID %q did not change", second.BootID)
	}
	if first.MachineID != second.MachineID {
		return false, fmt.Sprintf("machine ID was %q and is %q", first.MachineID, second.MachineID)
	}
	return true, fmt.Sprintf("boot ID %s, then %s", first.BootID, second.BootID)
}

// isReset finds the guest's own reset after it was told to reboot.
func isReset(s Session) func(qmp.Event) bool {
	return func(e qmp.Event) bool {
		var data struct {
			Guest bool `json:"guest"`
		}
		return e.Name == "RESET" && e.At.After(s.RebootAsked) && json.Unmarshal(e.Data, &data) == nil && data.Guest
	}
}

func stayedUp(e Expect, probed, _ Session) (bool, string) {
	if len(probed.Boots) == 0 {
		return false, "the guest was not booted"
	}
	ok, seen := Stayed(e, probed)
	if !ok || probed.End != Done {
		return false, fmt.Sprintf("boot %d: %s%s", len(probed.Boots), seen, because(probed))
	}
	return true, seen
}

func cleanBoot(e Expect, probed, clean Session) (bool, string) {
	if len(clean.Boots) == 0 {
		return false, "there was no boot without the probe"
	}
	if clean.Probe {
		return false, "the probe was in it"
	}
	if len(clean.Boots) > 1 {
		return false, "the guest restarted by itself"
	}
	ok, evidence := comesUp(e, clean.Boots[0])
	if !ok {
		return false, evidence + because(clean) + unread(probed, clean)
	}
	if stayed, seen := Stayed(e, clean); !stayed || clean.End != Done {
		return false, seen + because(clean)
	}
	if less := answersLess(probed, clean); less != "" {
		return false, less
	}
	return true, evidence
}

// unread tells of a guest that asked for a passphrase with the probe, when it has a
// serial console, and was not seen to ask without.
func unread(probed, clean Session) string {
	asks := func(b Boot) bool {
		return slices.ContainsFunc(b.Signs, func(s Sign) bool { return s.Name == PassphrasePrompt })
	}
	if !slices.ContainsFunc(probed.Boots, asks) || slices.ContainsFunc(clean.Boots, asks) {
		return ""
	}
	return "; it asks for a passphrase, and its prompt could not be read on its own console"
}

// answersLess is what the guest does on its network with the probe in it and not
// without, as far as both can be seen from outside.
func answersLess(probed, clean Session) string {
	var less []string
	for _, without := range clean.Boots[0].Network {
		mine := []string{without.MAC}
		for _, with := range witnesses(probed, without.MAC) {
			for _, a := range with.Answering {
				mine = append(mine, a.MAC)
			}
			if name := leasedAs(with); name != "" && leasedAs(without) != name {
				less = append(less, fmt.Sprintf("the lease was taken by %q, not by %q as with the probe: a firmware that finds nothing to boot asks for one, too", leasedAs(without), name))
			}
			for _, r := range with.Routes {
				if _, ok := without.Route(r.Addr); !ok {
					less = append(less, fmt.Sprintf("%v answers no strangers, as it did through %s with the probe", r.Addr, via(r)))
				}
			}
		}
		less = append(less, answeredByOthers(without, mine, clean.Boots[0].Seen)...)
	}
	return sentence(slices.Compact(less))
}

// leasedAs is the name under which an address was leased; "" if none was, or the
// client said none.
func leasedAs(w lan.Witness) string {
	if w.Lease == nil {
		return ""
	}
	return w.Lease.Hostname
}

// witnesses are what was seen of one NIC, boot after boot.
func witnesses(s Session, mac string) []lan.Witness {
	var seen []lan.Witness
	for _, b := range s.Boots {
		for _, w := range b.Network {
			if w.MAC == mac {
				seen = append(seen, w)
			}
		}
	}
	return seen
}
