package e2e

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/guests"
)

// A mutant is the sample guest, fixed, with one thing more that a proof must
// not be deceived by. It is rehearsed: what is added stands in its plan, so that
// what is expected of it comes from the same inspection as for any guest.
type mutant struct {
	name  string // "a guest that " goes before it
	on    hardware
	edits []edit
	spoil string   // a command for debugfs, on the disk that was converted
	cause string   // the tester that must be the first to say no
	says  []string // what the cause must hold, for an operator to go on with
	words string   // what the last words must hold
	also  []string // testers that may say no too; all others must say yes
	// always is a mutant of every run that starts machines; the others are
	// booted by make test-matrix.
	always bool
}

// edit is one thing more in a mutant's plan.
type edit func(v *guest.View) error

// hardware is what the VM has beyond the sample guest's.
type hardware struct{ nics, disks int }

// secondMAC is the address of the second card, of a mutant that has one.
const secondMAC = "00:50:56:12:c0:11"

// Testers that cannot say yes once another has said no: the guest that is not
// well is not rebooted, nor booted without the probe; one that is silent
// answers nothing at all.
var (
	unfinished = []string{"reboot-survived", "stayed-up", "clean-boot"}
	silent     = slices.Concat(unfinished, []string{"boot-target-reached", "root-on-expected-disk", "all-disks-present", "all-nics-present",
		"all-mounts-present", "nothing-essential-failed", "addresses-configured", "gateway-reached", "network-witnessed-outside",
		"identity-kept", "clock-kept"})
)

//go:embed testdata/*.pl
var programs embed.FS

func TestNoMutantIsProved(t *testing.T) {
	g := guestUnderTest(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			if !m.always && os.Getenv("NEED_VMS") != "matrix" {
				t.Skip("one of many mutants: set NEED_VMS=matrix")
			}
			r, err := m.run(t, g)
			if r.Outcome != nil {
				t.Logf("cause: %s", r.Outcome.Cause)
			}
			if !errors.Is(err, pipeline.ErrNotProved) {
				t.Fatalf("a guest that %s: %v, want %v", m.name, err, pipeline.ErrNotProved)
			}
			m.judge(t, *r.Outcome)
		})
	}
}

// run rehearses a mutant. One that is spoiled is converted first, and then tested.
func (m mutant) run(t *testing.T, g guests.Guest) (*pipeline.Run, error) {
	t.Helper()
	vmx := m.on.vmx(t, g)
	mutated := m.plan(t, vmx, g.VMDK)
	folder := filepath.Join(kept(t), "mutant")
	o := pipeline.Options{Source: vmx, Plan: &mutated, Skip: map[string]string{"convert": "this is a rehearsal"}}
	if m.spoil == "" {
		return run(t, folder, o)
	}
	o.Skip = map[string]string{"test": "it is spoiled first"}
	done, err := run(t, folder, o)
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, done.Disks[0].Path, m.spoil)
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Retest(t.Context(), pipeline.WithQEMU, "")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return r, err
}

// kept is where a mutant's folder is: one that outlives the test, if EVIDENCE
// names one.
func kept(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("EVIDENCE"); dir != "" {
		return filepath.Join(dir, t.Name())
	}
	return t.TempDir()
}

// rootOffset is where the sample guest's root file system begins, in bytes.
const rootOffset = 1 << 20

// spoil changes a converted disk behind the back of its file system.
func spoil(t *testing.T, converted, command string) {
	t.Helper()
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: converted}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := storage.Raw(t.Context(), 0)
	if err == nil {
		_, err = proc.Run(t.Context(), "debugfs", "-w", "-R", command, fmt.Sprintf("%s?offset=%d", raw, rootOffset))
	}
	if err := errors.Join(err, storage.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// judge checks who said no to a mutant, and with what words.
func (m mutant) judge(t *testing.T, o testers.Outcome) {
	t.Helper()
	if !strings.HasPrefix(o.Cause, m.cause+": ") {
		t.Errorf("the cause is %q, want %s", o.Cause, m.cause)
	}
	for _, w := range m.says {
		if !strings.Contains(o.Cause, w) {
			t.Errorf("the cause is %q, want %q in it", o.Cause, w)
		}
	}
	if !strings.Contains(o.LastWords, m.words) {
		t.Errorf("want %q in the last words:\n%s", m.words, o.LastWords)
	}
	for _, a := range o.Answers {
		if !a.OK && a.Name != m.cause && !slices.Contains(m.also, a.Name) {
			t.Errorf("%s said no too: %s", a.Name, a.Evidence)
		}
	}
}

// TestEveryTesterIsTheFirstToSayNoToAMutant needs no machine.
func TestEveryTesterIsTheFirstToSayNoToAMutant(t *testing.T) {
	var names []string
	for _, tester := range testers.All() {
		names = append(names, tester.Name)
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.cause == tester.Name }) {
			t.Errorf("no mutant is told by %s", tester.Name)
		}
	}
	always := 0
	for _, m := range mutants {
		for _, name := range append(slices.Clone(m.also), m.cause) {
			if !slices.Contains(names, name) {
				t.Errorf("a guest that %s: there is no tester %s", m.name, name)
			}
		}
		if m.always {
			always++
		}
	}
	if always == 0 || always > 3 {
		t.Errorf("%d mutants are booted in every run, want at most 3", always)
	}
}

// TestTheReadmesMutantsAreThere needs no machine.
func TestTheReadmesMutantsAreThere(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tester := range testers.All() {
		_, row, _ := strings.Cut(string(readme), "\n| `"+tester.Name+"` | "+tester.Why+" | ")
		row, _, _ = strings.Cut(row, " |\n")
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == row && m.cause == tester.Name }) {
			t.Errorf("README.md says that %s tells a guest that %q, which is no mutant of it", tester.Name, row)
		}
	}
}

// plan is the guest's own plan and the mutant's edits after it.
func (m mutant) plan(t *testing.T, vmx, vmdk string) fixers.Plan {
	t.Helper()
	planned, err := run(t, filepath.Join(t.TempDir(), "plan"), pipeline.Options{Source: vmx, Until: "plan"})
	if err != nil {
		t.Fatal(err)
	}
	fixed, closed := openDisk(t, vmdk)
	defer closed()
	if _, err := guest.Apply(fixed, planned.Plan.Changes); err != nil {
		t.Fatal(err)
	}
	v := guest.NewView(fixed)
	v.As("test/mutant", "to deceive the proof")
	for _, e := range m.edits {
		if err := e(v); err != nil {
			t.Fatal(err)
		}
	}
	mutated := *planned.Plan
	mutated.Changes = slices.Concat(mutated.Changes, v.Changes())
	return mutated
}

// vmx is the settings of a VM with the sample guest's disk and what is beyond.
func (h hardware) vmx(t *testing.T, g guests.Guest) string {
	t.Helper()
	if h == (hardware{}) {
		return g.VMX
	}
	text, err := os.ReadFile(g.VMX)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copyDisk(t, filepath.Join(dir, filepath.Base(g.VMDK)), g.VMDK)
	for i := range h.nics {
		text = fmt.Appendf(text, "ethernet%d.present = \"TRUE\"\nethernet%[1]d.virtualDev = \"vmxnet3\"\nethernet%[1]d.addressType = \"static\"\n"+
			"ethernet%[1]d.address = \"%s\"\nethernet%[1]d.pciSlotNumber = \"%[3]d\"\n", i+1, secondMAC, 224+32*i)
	}
	for i := range h.disks {
		name := fmt.Sprintf("blank%d.vmdk", i+1)
		if _, err := proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "vmdk", filepath.Join(dir, name), "256M"); err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "scsi0:%d.present = \"TRUE\"\nscsi0:%[1]d.deviceType = \"scsi-hardDisk\"\nscsi0:%[1]d.fileName = \"%s\"\n", i+1, name)
	}
	vmx := filepath.Join(dir, filepath.Base(g.VMX))
	if err := os.WriteFile(vmx, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return vmx
}

func copyDisk(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}

// unit is a unit that a target wants.
func unit(name, wanted, text string) edit {
	return func(v *guest.View) error {
		at := "/etc/systemd/system/" + name
		return errors.Join(v.Write(at, []byte("[Unit]\nDescription=Mutant\n"+text)),
			v.Link(at, "/etc/systemd/system/"+wanted+"/"+name))
	}
}

// script is a shell script that a unit runs, ordered as its head says.
func script(head, lines string) edit {
	return func(v *guest.View) error {
		const program = "/usr/local/sbin/mutant"
		service := head + "[Service]\nExecStart=" + program + "\n"
		if strings.Contains(head, "[Service]") {
			service = head + "ExecStart=" + program + "\n"
		}
		return errors.Join(v.Write(program, []byte("#!/bin/sh\n"+lines+"\n")), v.SetMode(program, 0o755),
			unit("mutant.service", "multi-user.target.wants", service)(v))
	}
}

// early runs a script before the first things that need the root file system
// to be writable have run.
const early = "DefaultDependencies=no\nAfter=systemd-remount-fs.service\nBefore=sysinit.target hyper2kvm-probe.service\n[Service]\nType=oneshot\n"

// late runs a script when the guest has come up.
const late = "After=multi-user.target\n"

// again begins a script whose rest only the second boot runs, when it has been
// up for a moment: after the probe's report, within the time that a guest is
// watched.
const again = "if [ ! -e /var/lib/mutant ]; then touch /var/lib/mutant; exit; fi; sleep 20; "

// perl is a program of testdata that runs before the probe does.
func perl(name string) edit {
	return func(v *guest.View) error {
		text, err := programs.ReadFile("testdata/" + name)
		if err != nil {
			return err
		}
		at := "/usr/local/sbin/" + name
		return errors.Join(v.Write(at, text), v.SetMode(at, 0o755),
			unit("mutant.service", "sysinit.target.wants", "DefaultDependencies=no\nAfter=systemd-udevd.service systemd-remount-fs.service\nBefore=hyper2kvm-probe.service\n"+
				"[Service]\nType=forking\nTimeoutStartSec=infinity\nExecStart=/usr/bin/perl "+at+"\n")(v))
	}
}

func write(path, text string) edit {
	return func(v *guest.View) error { return v.Write(path, []byte(text)) }
}

func link(target, path string) edit {
	return func(v *guest.View) error { return v.Link(target, path) }
}

func remove(path string) edit {
	return func(v *guest.View) error { return v.Remove(path) }
}

// replace changes every occurrence of a text, of which there must be one.
func replace(path, old, now string) edit {
	return func(v *guest.View) error {
		return v.Edit(path, func(text []byte) ([]byte, error) {
			if !strings.Contains(string(text), old) {
				return nil, fmt.Errorf("%q is not there", old)
			}
			return []byte(strings.ReplaceAll(string(text), old, now)), nil
		})
	}
}

// add puts text at the end of a file.
func add(path, more string) edit {
	return func(v *guest.View) error {
		return v.Edit(path, func(text []byte) ([]byte, error) { return append(text, more...), nil })
	}
}
