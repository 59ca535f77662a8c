package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/agent/serve"
	"hyper2kvm/testers/appliance"
)

// maker asks appliances that an admin's certificate is trusted by.
type maker struct {
	folder       string
	admin, key   string
	certificates map[string]string // of appliances, by name
	keys         map[string]string
}

func newMaker(t *testing.T, names ...string) maker {
	t.Helper()
	m := maker{folder: t.TempDir(), certificates: map[string]string{}, keys: map[string]string{}}
	m.admin, m.key = pair(t, m.folder, "marta")
	for _, name := range names {
		m.certificates[name], m.keys[name] = pair(t, m.folder, name)
	}
	return m
}

// settings are an appliance's, at an address that DHCP would not give it.
func (m maker) settings(t *testing.T, name, address string) map[string]string {
	t.Helper()
	return map[string]string{"hostname": name, "address": address + "/24", "gateway": "10.0.2.2", "certificate": read(t, m.certificates[name]), "key": read(t, m.keys[name]), "trust": read(t, m.admin)}
}

// boot starts an appliance, and waits until it answers as the one of a name.
func (m maker) boot(t *testing.T, ctx context.Context, name string, s appliance.Spec) (*appliance.Machine, *client.Conn) {
	t.Helper()
	s.Home = filepath.Join(m.folder, name)
	if err := os.Mkdir(s.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	machine, err := appliance.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := machine.Pull(); err != nil {
			t.Log(err)
		}
	})
	if err := machine.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s answers after %v", name, time.Since(began).Round(time.Second))
	block, _ := pem.Decode([]byte(read(t, m.certificates[name])))
	conn, err := client.New(machine.URL(), client.Options{Fingerprint: fmt.Sprintf("%x", sha256.Sum256(block.Bytes)), Certificate: m.admin, Key: m.key})
	if err != nil {
		t.Fatal(err)
	}
	return machine, conn
}

// image makes one, and fetches it with an interruption.
func image(t *testing.T, ctx context.Context, conn *client.Conn, path string, r model.DownloadRequest) model.Download {
	t.Helper()
	began := time.Now()
	d, err := conn.MakeDownload(ctx, r)
	for err == nil && d.State == model.DownloadStatePreparing {
		time.Sleep(time.Second)
		d, err = conn.ReadDownload(ctx, d.ID)
	}
	if err != nil || d.State != model.DownloadStateReady {
		t.Fatalf("it is %s: %s, %v", d.State, d.Detail, err)
	}
	t.Logf("made in %v", time.Since(began).Round(time.Second))
	began = time.Now()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int64{100 << 20, d.Size} { // the first is cut off in the middle of an answer
		if err := part(ctx, conn, d, f, size); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes fetched in %v", d.Size, time.Since(began).Round(time.Second))
	return d
}

// part goes on with a file until it has a size.
func part(ctx context.Context, conn *client.Conn, d model.Download, f *os.File, size int64) error {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	body, err := conn.FetchDownload(ctx, d, at)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, body, size-at)
	return errors.Join(err, body.Close())
}

// TestAnApplianceMakesAnotherOfItself: the image that it sends of its own disk starts, and
// is what its settings say; what the first one has kept is not in it.
func TestAnApplianceMakesAnotherOfItself(t *testing.T) {
	raw := applianceImage(t)
	m, ctx := newMaker(t, "mover1", "mover2"), within(t, 40*time.Minute)
	s, err := firstboot.NewSeed(m.settings(t, "mover1", "10.0.2.77"))
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(m.folder, "seed")
	if err := s.Write(t.Context(), seed, firstboot.ISO, false); err != nil {
		t.Fatal(err)
	}
	first, conn := m.boot(t, ctx, "mover1", appliance.Spec{Image: raw, Address: "10.0.2.77", Options: []string{"-drive", "if=none,id=seed,format=raw,readonly=on,file=" + seed, "-device", "ide-cd,drive=seed,bus=ide.1"}})
	path := filepath.Join(m.folder, "mover2.raw")
	image(t, ctx, conn, path, model.DownloadRequest{Form: model.DownloadFormRaw, Settings: m.settings(t, "mover2", "10.0.2.78")})
	if err := first.Pull(); err != nil {
		t.Fatal(err)
	}
	_, conn = m.boot(t, ctx, "mover2", appliance.Spec{Image: path, Address: "10.0.2.78"})
	if all, err := conn.Appliances(ctx); err != nil || len(all) != 1 || all[0].Name != "mover2" {
		t.Errorf("appliances: %+v, %v", all, err)
	}
	if list, err := conn.Downloads(ctx); err != nil || len(list) != 0 {
		t.Errorf("what the first one has kept is in it: %+v, %v", list, err)
	}
	if list, err := conn.Disks(ctx); err != nil || len(list) != 0 {
		t.Errorf("its own disk is for everybody's use: %+v, %v", list, err)
	}
}

// hub is an agent of this machine, as a guest of QEMU's user network reaches it.
type hub struct {
	conn      *client.Conn
	api, port string
}

func newHub(t *testing.T, images string) hub {
	t.Helper()
	folder := t.TempDir()
	h := hub{api: freePort(t), port: freePort(t)}
	text := fmt.Sprintf("state: %[1]s/state\nappliance: {name: hub}\nlisten: [{https: '127.0.0.1:%[2]s'}, {unix: %[1]s/agent.sock}]\nengine: {shape: hub, hub: {listen: '127.0.0.1:%[3]s'}}\nstorages: [{name: images, path: %[4]s, use: source}]\n", folder, h.api, h.port, images)
	file := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, s, "test", io.Discard, testLog(t)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	socket := filepath.Join(folder, "agent.sock")
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the hub does not answer")
		}
	}
	if h.conn, err = client.New("unix:"+socket, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestAnApplianceFromAStorageJoinsByItself: it is made of an image in a storage, and once it has
// joined nobody can fetch it again.
func TestAnApplianceFromAStorageJoinsByItself(t *testing.T) {
	raw, err := filepath.Abs(applianceImage(t))
	if err != nil {
		t.Fatal(err)
	}
	const here = "10.0.2.2" // this machine, as QEMU's user network has it
	h, m, ctx := newHub(t, filepath.Dir(raw)), newMaker(t, "mover3"), within(t, 20*time.Minute)
	settings := m.settings(t, "mover3", "10.0.2.79")
	settings["hub"] = here + ":" + h.port
	path := filepath.Join(m.folder, "mover3.raw")
	d := image(t, ctx, h.conn, path, model.DownloadRequest{Form: model.DownloadFormRaw, Settings: settings, Join: true, Addresses: []string{here + ":" + h.api}, Base: model.Place{Storage: "images", Path: filepath.Base(raw)}})
	m.boot(t, ctx, "mover3", appliance.Spec{Image: path, Address: "10.0.2.79", BIOS: true})
	all, err := h.conn.Appliances(ctx)
	alive := false
	for _, a := range all {
		alive = alive || a.Name == "mover3" && a.Alive
	}
	if err != nil || !alive {
		t.Errorf("appliances: %+v, %v", all, err)
	}
	if _, err := h.conn.FetchDownload(ctx, d, 0); err == nil {
		t.Error("it can be fetched once more")
	} else if r, ok := errors.AsType[*client.Refusal](err); !ok || r.Code != "over" {
		t.Errorf("once more: %v", err)
	}
}
