package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/appliance"
	"hyper2kvm/testers/guests"
	"hyper2kvm/testers/screen"
)

// site is an air-gapped one: the appliance on a stick, and two disks attached.
type site struct {
	spec           appliance.Spec
	source, target string
	m              *appliance.Machine
	fingerprint    string
	tokenFile      string
	conn           *client.Conn
}

// applianceImage is the appliance's raw disk. make test-appliance says where it is.
func applianceImage(t *testing.T) string {
	t.Helper()
	path := os.Getenv("APPLIANCE")
	if path == "" {
		t.Skip("APPLIANCE names no image: run make test-appliance")
	}
	return path
}

// newSite has the sample guest on the one disk, and nothing on the other.
func newSite(t *testing.T) *site {
	t.Helper()
	image := applianceImage(t)
	recipe, err := guests.Named("web02")
	if err != nil {
		t.Fatal(err)
	}
	g, err := guests.Build(t.Context(), recipe, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	s := &site{source: filepath.Join(folder, "source.raw"), target: filepath.Join(folder, "target.raw"), tokenFile: filepath.Join(folder, "token")}
	if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-O", "raw", "--", g.VMDK, s.source); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.source)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(s.target, nil, 0o600), os.Truncate(s.target, info.Size())); err != nil {
		t.Fatal(err)
	}
	s.spec = appliance.Spec{Home: filepath.Join(folder, "home"), Image: image, Bus: "usb", Options: []string{
		"-drive", "if=none,id=source,format=raw,cache=unsafe,file=" + s.source, "-device", "virtio-blk-pci,drive=source,serial=SOURCE1",
		"-drive", "if=none,id=target,format=raw,cache=unsafe,file=" + s.target, "-device", "virtio-blk-pci,drive=target,serial=TARGET1"}}
	if err := os.Mkdir(s.spec.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.pull(t) })
	return s
}

// boots starts the appliance and waits until its API is ready.
func (s *site) boots(t *testing.T) {
	t.Helper()
	began := time.Now()
	var err error
	if s.m, err = appliance.Start(t.Context(), s.spec); err != nil {
		t.Fatal(err)
	}
	if err := s.m.Ready(within(t, 10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %.0f s", time.Since(began).Seconds())
	if s.tokenFile != "" && s.fingerprint != "" {
		s.asks(t)
	}
}

// pull cuts the power.
func (s *site) pull(t *testing.T) {
	t.Helper()
	if s.m == nil {
		return
	}
	if err := s.m.Pull(); err != nil {
		t.Log(err)
	}
	s.m = nil
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

var (
	codeShown        = regexp.MustCompile(`\b[A-Z0-9]{5}(-[A-Z0-9]{5}){3}\b`)
	fingerprintShown = regexp.MustCompile(`(?:[0-9A-F]{2}:){15}[0-9A-F]{2}`)
)

// setUp reads the fingerprint and the code from the screen, as a person would, and makes
// the first admin by them, and a token.
func (s *site) setUp(t *testing.T) {
	t.Helper()
	code := ""
	for limit := time.Now().Add(3 * time.Minute); code == ""; time.Sleep(time.Second) {
		shown, err := screen.Look(t.Context(), s.m)
		if err != nil {
			t.Fatal(err)
		}
		halves := fingerprintShown.FindAllString(shown.Text, 2)
		if found := codeShown.FindString(shown.Text); len(halves) == 2 {
			code, s.fingerprint = found, halves[0]+":"+halves[1]
		}
		if time.Now().After(limit) {
			t.Fatalf("the screen shows no code:\n%s", shown.Text)
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: s.pinned()}}
	s.post(t, c, "/setup", map[string]any{"code": code, "name": "marta", "password": "four calm badgers hum"}, nil)
	var token struct{ Text string }
	s.post(t, c, "/tokens", map[string]any{"name": "test", "role": "operator"}, &token)
	if err := os.WriteFile(s.tokenFile, []byte(token.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.asks(t)
}

// pinned trusts the certificate that the screen shows, and no other.
func (s *site) pinned() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
		sum := sha256.Sum256(raw[0])
		if want := strings.ReplaceAll(s.fingerprint, ":", ""); !strings.EqualFold(hex.EncodeToString(sum[:]), want) {
			return fmt.Errorf("the certificate is %x, and the screen shows %s", sum, want)
		}
		return nil
	}}
}

func (s *site) post(t *testing.T, c *http.Client, path string, body, into any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.m.URL()+"/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reply, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	answer, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode >= 300 {
		t.Fatalf("%s: %s %s %v", path, reply.Status, answer, err)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *site) asks(t *testing.T) {
	t.Helper()
	var err error
	if s.conn, err = client.New(s.m.URL(), client.Options{Fingerprint: s.fingerprint, TokenFile: s.tokenFile}); err != nil {
		t.Fatal(err)
	}
}

// choose says what the two disks are for, and returns their IDs.
func (s *site) choose(t *testing.T) (source, target string) {
	t.Helper()
	list, err := s.conn.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		t.Logf("%s: %s", d.ID, d.Holds)
		switch d.Serial {
		case "SOURCE1":
			source = d.ID
		case "TARGET1":
			target = d.ID
		default:
			t.Errorf("%+v is offered", d)
		}
	}
	if _, err := s.conn.UseDisk(t.Context(), source, model.DiskUse{As: model.DiskUseAsSource}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.UseDisk(t.Context(), target, model.DiskUse{As: model.DiskUseAsTarget, Confirm: "TARGET1"}); err != nil {
		t.Fatal(err)
	}
	return source, target
}

// ends waits until an operation has ended, and logs what is told meanwhile.
func (s *site) ends(t *testing.T, o model.Operation) {
	t.Helper()
	copied := false
	o, err := s.conn.Await(within(t, 30*time.Minute), o, func(e model.Event) {
		copied = copied || e.Progress.Total > 0
		if e.Stage.Name != "" && e.Stage.State != "" {
			t.Logf("%s %s %s", e.Migration, e.Stage.Name, e.Stage.State)
		}
	})
	if err != nil || o.Problem.Title != "" || !copied {
		t.Fatalf("%+v, %v, its copy was told of: %v", o, err, copied)
	}
}

// comes waits until the migration is as it should be.
func (s *site) comes(t *testing.T, is func(model.Migration) bool) model.Migration {
	t.Helper()
	for limit := time.Now().Add(20 * time.Minute); ; time.Sleep(time.Second) {
		v, err := s.conn.Migration(t.Context(), "web02")
		if err == nil && is(v) {
			return v
		}
		if err != nil || v.State == model.StateFailed || time.Now().After(limit) {
			t.Fatalf("it is %+v, %v", v, err)
		}
	}
}

const emulated = "the appliance is itself emulated in this test: the result is booted outside of it"

func order(source, target string) model.MigrationRequest {
	return model.MigrationRequest{ID: "web02", Spec: model.Spec{Name: "web02", Source: model.Source{Disk: source}, Target: model.Target{Storage: "local", Disk: target},
		Approval: model.SpecApprovalRequired, Test: model.Test{Skip: emulated}}}
}

// TestAnApplianceMigratesFromDiskToDisk boots the appliance from a stick beside a disk with
// a guest and an empty one. All that a person does is done: the screen is read, an admin
// made, disks are chosen, a plan is approved, and the machine switched off. The empty disk
// then boots, and is proved.
func TestAnApplianceMigratesFromDiskToDisk(t *testing.T) {
	s := newSite(t)
	before := digest(t, s.source)
	s.boots(t)
	s.setUp(t)
	source, target := s.choose(t)
	o, err := s.conn.Begin(t.Context(), order(source, target))
	if err != nil {
		t.Fatal(err)
	}
	v := s.comes(t, func(v model.Migration) bool { return v.State == model.StatePlanned })
	if _, err := s.conn.Order(t.Context(), "web02", client.Order{Kind: model.OperationKindApprove, Digest: v.Plan.Digest}); err != nil {
		t.Fatal(err)
	}
	s.ends(t, o)
	s.isDone(t)
	s.off(t)
	if after := digest(t, s.source); after != before {
		t.Error("the source was written to")
	}
	s.proved(t)
}

func (s *site) isDone(t *testing.T) {
	t.Helper()
	v, err := s.conn.Migration(t.Context(), "web02")
	if err != nil || v.State != model.StateDone || v.Verdict != model.VerdictUntested {
		t.Fatalf("it is %+v, %v", v, err)
	}
}

// off switches the machine off as its power button does.
func (s *site) off(t *testing.T) {
	t.Helper()
	if err := s.m.Execute(t.Context(), "system_powerdown", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.m.Ended(within(t, 5*time.Minute)); err != nil {
		t.Fatalf("it did not switch itself off: %v\n%s", err, s.m.Serial())
	}
	s.m = nil
}

// proved boots the target disk on KVM's hardware, outside of the appliance.
func (s *site) proved(t *testing.T) {
	t.Helper()
	done, err := run(t, filepath.Join(t.TempDir(), "web02"), pipeline.Options{Source: s.target, Skip: asItIs()})
	if err != nil {
		t.Fatal(err)
	}
	if done.Outcome == nil || !done.Outcome.Proved {
		t.Errorf("what the appliance wrote is not proved: %+v", done.Outcome)
	}
}

// TestAnApplianceGoesOnAfterItsPowerWasCut in the middle of a copy.
func TestAnApplianceGoesOnAfterItsPowerWasCut(t *testing.T) {
	s := newSite(t)
	s.boots(t)
	s.setUp(t)
	source, target := s.choose(t)
	r := order(source, target)
	r.Spec.Approval, r.Spec.Limits = model.SpecApprovalAutomatic, []string{"8M"}
	if _, err := s.conn.Begin(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	v := s.comes(t, func(v model.Migration) bool {
		return v.State == model.StateDone || v.Progress.Total > 0 && v.Progress.Virtual > v.Progress.Total/4 && len(v.Stages) > 5 && v.Stages[5].State == model.StageStateRunning
	})
	if v.State == model.StateDone {
		t.Fatal("it was done before it was seen to copy")
	}
	t.Logf("the power is cut at %d of %d", v.Progress.Virtual, v.Progress.Total)
	s.pull(t)
	s.boots(t)
	s.comes(t, func(v model.Migration) bool { return v.State == model.StateDone })
	s.isDone(t)
	s.off(t)
	s.proved(t)
}
