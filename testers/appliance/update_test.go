package appliance

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

// updatable is a machine with the signed image, and a stick with an update to a later
// version, and one that nobody has signed.
func updatable(t *testing.T, bios bool) (s Spec, version string) {
	t.Helper()
	signed, update := os.Getenv("SIGNED"), os.Getenv("UPDATE")
	if signed == "" || update == "" {
		t.Skip("SIGNED and UPDATE name no image and no update: run make test-appliance")
	}
	return Spec{Home: t.TempDir(), Image: signed, BIOS: bios, Secure: !bios, Options: stick(t, update)},
		strings.TrimSuffix(strings.TrimPrefix(filepath.Base(update), "hyper2kvm-"), ".update")
}

// stick is a disk with an update, and with the beginning of it changed.
func stick(t *testing.T, update string) []string {
	t.Helper()
	folder, image := t.TempDir(), filepath.Join(t.TempDir(), "stick.raw")
	good, err := os.ReadFile(update)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "good"), good, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := good[:1<<20]
	bad[512] ^= 1 // of the first sum
	if err := os.WriteFile(filepath.Join(folder, "bad"), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "mke2fs", "-q", "-t", "ext4", "-d", folder, image, fmt.Sprintf("%dM", len(good)>>20+200)); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=none,id=stick,format=raw,readonly=on,file=" + image, "-device", "virtio-blk-pci,drive=stick,serial=STICK"}
}

// Scripts, of what somebody at the appliance does.
const (
	plugged = `hyper2kvm disks use virtio-STICK --as storage --name stick >/dev/null; `
	refused = plugged + `echo "bad: <$(hyper2kvm update stick:bad 2>&1)>"; `
	install = `cat /sys/class/block/vda5/start | sed "s/.*/slot: <&>/"; echo "installed: <$(hyper2kvm update %s --restart 2>&1 | tail -n 3)>"`
	cut     = `mkdir /run/stick; mount -r /dev/disk/by-id/virtio-STICK /run/stick; hyper2kvm update /run/stick/good & until hyper2kvm update --output json | grep "written.*[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]"; do sleep 1; done; echo "it is being written"; wait`
	seen    = `for n in $(seq 90); do hyper2kvm update | grep -q "on trial$" || break; sleep 2; done; echo "seen: <$(hyper2kvm update 2>&1)>"; echo "failed: <$(systemctl --failed --plain --no-legend)>"`
	drawn   = `; echo "shown: <$(timeout 60 hyper2kvm dashboard 2>&1 | grep -m 1 -A 2 Update:)>"`
)

// TestAnUpdate by UEFI with Secure Boot, from a stick, and by BIOS, from a web server: the
// power goes while it is written, one that is not signed is refused, it is installed, it
// runs and is confirmed, and what the appliance has kept is there; if it cannot start, the
// version before starts again, and says so.
func TestAnUpdate(t *testing.T) {
	for name, bios := range map[string]bool{"by UEFI": false, "by BIOS": true} {
		t.Run(name, func(t *testing.T) {
			s, version := updatable(t, bios)
			script := fmt.Sprintf(install, "stick:good")
			if !bios {
				enrolled(t, s)
				cutWhileWriting(t, s)
			} else {
				script = fromWeb(t)
			}
			slot, shown := installed(t, s, version, script)
			failing := s
			failing.Home = t.TempDir()
			for _, file := range []string{"root.qcow2", "vars.fd"} {
				copyFile(t, filepath.Join(s.Home, file), filepath.Join(failing.Home, file))
			}
			t.Run("is confirmed", func(t *testing.T) { confirmed(t, s, version, shown) })
			t.Run("is given up", func(t *testing.T) { givenUp(t, failing, version, slot) })
		})
	}
}

// fromWeb is the script that installs the update from a server of this machine's, whose
// connection breaks off in the middle of the file.
func fromWeb(t *testing.T) string {
	t.Helper()
	update := os.Getenv("UPDATE")
	var broken, wentOn atomic.Bool
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"next"`)
		if !broken.Swap(true) {
			w = &breaking{ResponseWriter: w, left: 100 << 20}
		} else if r.Header.Get("Range") != "" {
			wentOn.Store(true)
		}
		http.ServeFile(w, r, update)
	}))
	t.Cleanup(func() {
		s.Close()
		if !wentOn.Load() {
			t.Error("the download was not gone on with after it had broken off")
		}
	})
	name := s.Certificate().DNSNames[0]
	authority := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return fmt.Sprintf("echo 10.0.2.2 %s >>/etc/hosts; echo %s | base64 -d >/run/ca.pem; ", name, authority) + // QEMU's name for this machine
		fmt.Sprintf(install, fmt.Sprintf("https://%s:%d/next.update --server-ca /run/ca.pem", name, s.Listener.Addr().(*net.TCPAddr).Port))
}

// breaking is an answer that ends early.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

func cutWhileWriting(t *testing.T, s Spec) {
	t.Helper()
	began := time.Now()
	m, ctx := started(t, s.running(cut))
	if err := m.Says(ctx, "it is being written"); err != nil {
		t.Fatal(err)
	}
	if err := m.Pull(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the power was cut after %.0f s", time.Since(began).Seconds())
}

// installed has a script install the update, and returns where, and the appliance's
// certificate.
func installed(t *testing.T, s Spec, version, script string) (slot int64, shown string) {
	t.Helper()
	began := time.Now()
	m, ctx := started(t, s.running(refused+script))
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	shown = certificate(t, m)
	said := m.answers(t, ctx)
	if !strings.Contains(said["bad"], "not signed with a key that this appliance trusts") {
		t.Errorf("one that is not signed: %q", said["bad"])
	}
	if !strings.Contains(said["installed"], version+", on trial") || !strings.Contains(said["installed"], "this appliance restarts") {
		t.Errorf("it is not installed: %q", said["installed"])
	}
	if err := m.Ended(ctx); err != nil {
		t.Fatal(err)
	}
	sector, err := strconv.ParseInt(strings.TrimSpace(said["slot"]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("installed after %.0f s", time.Since(began).Seconds())
	return sector * 512, shown
}

func confirmed(t *testing.T, s Spec, version, shown string) {
	began := time.Now()
	m, ctx := started(t, s.running(seen))
	err := m.Ready(ctx)
	for try := 1; err != nil && try < 3 && m.stumbled(); try++ { // the machine would start again by itself, which is another try
		t.Logf("try %d: the emulated kernel stumbled", try)
		m, ctx = started(t, s.running(seen))
		err = m.Ready(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if certificate(t, m) != shown {
		t.Error("what the appliance has kept is lost")
	}
	said := m.answers(t, ctx)
	if words := strings.Join(strings.Fields(said["seen"]), " "); !strings.Contains(words, "runs "+version+" beside it ") || strings.Contains(words, "trial") {
		t.Errorf("it says %q", said["seen"])
	}
	if said["failed"] != "" {
		t.Errorf("failed: %s", said["failed"])
	}
	t.Logf("it runs, and is confirmed, after %.0f s", time.Since(began).Seconds())
}

// stumbled tells whether the kernel died of its own breakpoint, with which it changes its
// code while it runs. QEMU's emulation of several processors sees one now and then that is
// not there any more.
func (m *Machine) stumbled() bool {
	return strings.Contains(m.Serial(), "Oops: int3: 0000") && strings.Contains(m.Serial(), "Kernel panic")
}

func givenUp(t *testing.T, s Spec, version string, slot int64) {
	damage(t, &s, slot)
	began, told := time.Now(), 0
	for range 3 { // an emulated kernel may panic as well: that is a try too
		m, ctx := started(t, s)
		if err := m.Ended(ctx); err != nil {
			t.Fatal(err)
		}
		told += strings.Count(m.Serial(), "this version is on trial: the machine starts again")
	}
	if told == 0 {
		t.Error("why it does not start was never told")
	}
	said := inside(t, s, seen+drawn)
	if !strings.Contains(said["seen"], version+" was installed at ") || !strings.Contains(said["seen"], "started 3 times and was not healthy") {
		t.Errorf("it says %q", said["seen"])
	}
	if words := strings.Join(strings.Fields(said["shown"]), " "); !strings.Contains(words, version+" was installed at ") || !strings.Contains(words, "was not healthy") {
		t.Errorf("the dashboard says %q", said["shown"])
	}
	t.Logf("after %.0f s and three tries the version before runs, and says: %s", time.Since(began).Seconds(), said["seen"])
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
