package appliance

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

// image is the appliance's raw disk. make test-appliance builds it and says where it is.
func image(t testing.TB) string {
	t.Helper()
	path := os.Getenv("APPLIANCE")
	if path == "" {
		t.Skip("APPLIANCE names no image: run make test-appliance")
	}
	return path
}

// patience is for an emulator beside another one on two CPUs.
const patience = 15 * time.Minute

func started(t testing.TB, s Spec) (*Machine, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	if s.Home == "" {
		s.Home = t.TempDir()
	}
	if s.Image == "" {
		s.Image = image(t)
	}
	m, err := Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Pull(); err != nil {
			t.Log(err)
		}
	})
	return m, ctx
}

// TestItStartsFromWhateverItIsPutOn by UEFI and BIOS, to where its API is ready. The UEFI
// that QEMU has does not start anything from PVSCSI and LSI: there the BIOS does, and that
// VMware's own UEFI does is not proved.
func TestItStartsFromWhateverItIsPutOn(t *testing.T) {
	for _, c := range []Spec{{Bus: "virtio"}, {Bus: "usb"}, {Bus: "nvme"}, {Bus: "sata"}, {Bus: "virtscsi"}, {Bus: "virtio", BIOS: true}, {Bus: "sata", BIOS: true}, {Bus: "usb", BIOS: true}, {Bus: "pvscsi", BIOS: true}, {Bus: "lsi", BIOS: true}} {
		name := c.Bus + " by UEFI"
		if c.BIOS {
			name = c.Bus + " by BIOS"
		}
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			m, ctx := started(t, c)
			if err := m.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			t.Logf("ready after %.0f s", time.Since(began).Seconds())
		})
	}
}

// TestItHasThePackageOfEveryProgram that is run on it, by the manifest beside the image.
func TestItHasThePackageOfEveryProgram(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(image(t)), "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Packages []struct{ Name string } }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, p := range manifest.Packages {
		has = append(has, p.Name)
	}
	for _, p := range proc.Programs {
		if p.Package != "" && !p.Build && !p.Bench && !p.Hook && !slices.Contains(has, p.Package) {
			t.Errorf("%s is not there: the image has no %s", p.Name, p.Package)
		}
	}
}

// TestWhyItDoesNotStartIsOnTheConsole in one sentence, with what to try.
func TestWhyItDoesNotStartIsOnTheConsole(t *testing.T) {
	parts := table(t)
	root, hashes, state := parts[2], parts[3], parts[3].end()+room
	another := filepath.Join(t.TempDir(), "another.qcow2")
	if err := Overlay(t.Context(), image(t), another, 8<<30); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spec    Spec
		damaged int64 // where its disk is written over
		words   []string
	}{
		"no room for a state":              {Spec{Size: size(t)}, 0, []string{"no state partition can be made", "hyper2kvm.state=ram"}},
		"another version's boot entry":     {Spec{Kernel: "roothash=" + strings.Repeat("ab", 32)}, 0, []string{"is of another version than this boot entry"}},
		"a disk that is not there":         {Spec{Kernel: "hyper2kvm.disk=NONE hyper2kvm.wait=3"}, 0, []string{"the appliance is not on the disk NONE"}},
		"another word":                     {Spec{Kernel: "hyper2kvm.wait=long"}, 0, []string{"hyper2kvm.wait=long, which is no number of seconds"}},
		"two disks with the appliance":     {Spec{Options: []string{"-drive", "if=none,id=other,format=qcow2,file=" + another, "-device", "virtio-blk-pci,drive=other,serial=OTHER"}}, 0, []string{"on more than one disk: vd", "OTHER"}},
		"contents that are not the hash's": {Spec{}, root.Start * 512, []string{"cannot be read", "write the image anew"}},
		"a hash that is not the entry's":   {Spec{}, hashes.Start*512 + 4096, []string{"cannot be read", "write the image anew"}}, // the root itself is whole
		"a damaged state":                  {Spec{}, state, []string{"the state partition vda7", "is damaged", "Factory reset"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Home = t.TempDir()
			if c.damaged == state { // there has to be one first
				m, ctx := started(t, c.spec)
				if err := m.Ready(ctx); err != nil {
					t.Fatal(err)
				}
				if err := m.Pull(); err != nil {
					t.Fatal(err)
				}
			}
			if c.damaged > 0 {
				damage(t, &c.spec, c.damaged)
			}
			m, ctx := started(t, c.spec)
			says(t, m, ctx, c.words...)
		})
	}
}

// room is what a second version has behind the first one, before the state: see
// image/files/usr/lib/hyper2kvm/repart.d.
const room = (768 + 8) << 20

// part is a partition, in sectors.
type part struct{ Start, Size int64 }

func (p part) end() int64 { return (p.Start + p.Size) * 512 }

// table is the image's, as sfdisk reads it.
func table(t *testing.T) []part {
	t.Helper()
	out, err := proc.Run(t.Context(), "sfdisk", "--json", image(t))
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		PartitionTable struct{ Partitions []part }
	}
	if err := json.Unmarshal(out, &read); err != nil || len(read.PartitionTable.Partitions) != 4 {
		t.Fatalf("%s: %v", out, err)
	}
	return read.PartitionTable.Partitions
}

// damage writes over two MiB of the machine's disk.
func damage(t *testing.T, s *Spec, at int64) {
	t.Helper()
	if s.Image == "" {
		s.Image = image(t)
	}
	if err := s.furnish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P 0x5a %d 2M", at), s.disk()); err != nil {
		t.Fatal(err)
	}
}

// size is the image's own: there is no room behind it.
func size(t *testing.T) int64 {
	t.Helper()
	info, err := os.Stat(image(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func says(t *testing.T, m *Machine, ctx context.Context, what ...string) {
	t.Helper()
	for _, text := range append([]string{"The appliance does not start: "}, what...) {
		if err := m.Says(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(m.Serial(), "Try this: ") != 1 {
		t.Errorf("what to try is not told once:\n%s", tail(m.Serial()))
	}
	if err := m.Shows(ctx, append(what, "Try this: ")...); err != nil {
		t.Error(err)
	}
}

// TestInMemoryItOutlivesItsStick that is pulled out when the screen says so.
func TestInMemoryItOutlivesItsStick(t *testing.T) {
	m, ctx := started(t, Spec{Bus: "usb", Kernel: "hyper2kvm.toram", Memory: 4096})
	if err := m.Says(ctx, "may be taken away now"); err != nil {
		t.Fatal(err)
	}
	if err := m.Execute(ctx, "device_del", map[string]any{"id": "stick"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// inside has a script run in the machine: what it asks of the system within, once the agent
// is there, stands on the console as NAME: <ANSWER>.
func inside(t *testing.T, s Spec, script string) map[string]string {
	t.Helper()
	m, ctx := started(t, s.running(script))
	said := m.answers(t, ctx)
	if err := m.Pull(); err != nil {
		t.Fatal(err)
	}
	return said
}

// running gives the machine a unit from outside that runs a script. A getty that starts
// takes the console away from whoever has it open.
func (s Spec) running(script string) Spec {
	unit := "[Unit]\nAfter=hyper2kvm.service serial-getty@ttyS0.service\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 5; exec >/dev/ttyS0 2>&1; echo; " + strings.ReplaceAll(script, "%", "%%") + "; echo looked at'\n"
	return s.given("look.service", unit, "multi-user.target")
}

// given gives the machine a unit from outside, which a target starts.
func (s Spec) given(name, unit, target string) Spec {
	s.SMBIOS = append(slices.Clone(s.SMBIOS), credential("systemd.extra-unit."+name, unit), credential("systemd.unit-dropin."+target, "[Unit]\nWants="+name+"\n"))
	return s
}

// credential is one of systemd's, as an SMBIOS value.
func credential(name, text string) string {
	return "io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString([]byte(text))
}

// answers waits for the script's end, and returns what it has found.
func (m *Machine) answers(t *testing.T, ctx context.Context) map[string]string {
	t.Helper()
	if err := m.Says(ctx, "looked at"); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, found := range regexp.MustCompile(`(?s)(\w+): <(.*?)>`).FindAllStringSubmatch(m.Serial(), -1) {
		said[found[1]] = found[2]
	}
	return said
}

// look asks for what has failed, for what of SSH is there, for the API by vsock, and for
// the memory that is used.
const look = `sleep 20; \
echo "failed: <$(systemctl --failed --plain --no-legend)>"; \
echo "ssh: <$(systemctl list-units --plain --no-legend --all "ssh*" | grep -v "not-found\|inactive")>"; \
echo "esp: <$(systemctl list-units --plain --no-legend --all "boot.*" "efi.*" | grep -v "not-found")>"; \
modprobe vsock_loopback; \
print=$(journalctl -u hyper2kvm -o cat | sed -n "s/.*SHA-256 is \\([0-9A-F:]*\\).*/\\1/p" | head -1); \
echo "vsock: <$(hyper2kvm storages --appliance vsock:1:443 --fingerprint "$print" 2>&1)>"; \
echo "memory: <$(cat /proc/meminfo)>"`

// TestItsSystemIsInOrder within: nothing has failed, nothing listens that should not, nothing
// mounts its ESP but updates, vsock leads to the API, and little memory is used.
func TestItsSystemIsInOrder(t *testing.T) {
	said := inside(t, Spec{}, look)
	for _, name := range []string{"failed", "ssh", "esp"} {
		if units, there := said[name]; units != "" || !there {
			t.Errorf("%s: %q, said %v; there are to be none", name, units, there)
		}
	}
	if !strings.Contains(said["vsock"], "log in") {
		t.Errorf("vsock: %q", said["vsock"])
	}
	used, reserved := memory(t, said["memory"])
	t.Logf("%d MiB of memory are used, and %d are what the kernel does not give away", used, reserved)
	const most = 250 // MiB
	if used > most {
		t.Errorf("%d MiB of memory are used, at most %d are to be", used, most)
	}
}

// memory is how much is used without what can be given back at once, and how much of the
// rest the kernel keeps for itself, in MiB. The second grows with the machine.
func memory(t *testing.T, meminfo string) (used, reserved int) {
	t.Helper()
	kib := map[string]int{}
	for _, found := range regexp.MustCompile(`(\w+): +(\d+) kB`).FindAllStringSubmatch(meminfo, -1) {
		n, err := strconv.Atoi(found[2])
		if err != nil {
			t.Fatal(err)
		}
		kib[found[1]] = n
	}
	if kib["MemTotal"] == 0 || kib["MemAvailable"] == 0 {
		t.Fatalf("%q is no account of memory", meminfo)
	}
	used = kib["MemTotal"] - kib["MemFree"] - kib["Buffers"] - (kib["Cached"] - kib["Shmem"]) - kib["SReclaimable"]
	return used >> 10, (kib["MemTotal"] - kib["MemAvailable"] - used) >> 10
}

// TestAFactoryResetBeginsAnew: what it has kept outlives a power cut, and not that.
func TestAFactoryResetBeginsAnew(t *testing.T) {
	s := Spec{Home: t.TempDir()}
	var seen []string
	for _, words := range []string{"", "", "hyper2kvm.factory-reset"} {
		s.Kernel = words
		m, ctx := started(t, s)
		if err := m.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, certificate(t, m))
		if err := m.Pull(); err != nil {
			t.Fatal(err)
		}
	}
	if seen[0] != seen[1] || seen[1] == seen[2] {
		t.Errorf("its certificates are %q", seen)
	}
}

// certificate is what the appliance shows, made at its first start.
func certificate(t *testing.T, m *Machine) string {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(m.URL(), "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprintf("%x", sha256.Sum256(c.ConnectionState().PeerCertificates[0].Raw))
}
