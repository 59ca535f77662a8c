package serve

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// plants are secrets that an agent was given or gave, by what they are.
type plants struct {
	mu   sync.Mutex
	all  map[string]string
	seen map[string]bool // where some were found
}

func (p *plants) plant(what, secret string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[what] = secret
	return secret
}

// look notes that a text shows a secret, as it is or as programs write bytes.
func (p *plants) look(where string, text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, secret := range p.all {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))} {
			if bytes.Contains(text, []byte(form)) {
				p.seen[what+" in "+where] = true
			}
		}
	}
}

// watch looks at the command lines and environments of all processes, until ctx ends,
// and tells how many of hyper2kvm's runners it has seen.
func (p *plants) watch(ctx context.Context) (runners int) {
	known := map[string]bool{}
	for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range files {
			command, err := os.ReadFile(name)
			environment, gone := os.ReadFile(filepath.Join(filepath.Dir(name), "environ"))
			if errors.Join(err, gone) != nil || known[name+string(command)] {
				continue // one that has ended, or was looked at
			}
			known[name+string(command)] = true
			p.look("argv "+string(bytes.ReplaceAll(command[:min(len(command), 60)], []byte{0}, []byte(" "))), command)
			p.look("environ of "+string(command[:min(len(command), 60)]), environment)
			if bytes.HasPrefix(command, []byte("hyper2kvm-runner\x00planted")) {
				runners++
			}
		}
	}
	return runners
}

// files looks at what all files of a folder hold.
func (p *plants) files(t *testing.T, folder string) (n int) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n++
		text, err := os.ReadFile(path)
		p.look(path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// once sends what is answered with a secret, and looks at no reply.
func (a *appliance) once(t *testing.T, path, body string, v any) http.Header {
	t.Helper()
	reply, err := a.local().Post("http://appliance/api/v1"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(v); err != nil || reply.StatusCode > 299 {
		t.Fatalf("%s: %d, %v", path, reply.StatusCode, err)
	}
	return reply.Header
}

// plantAll has an agent given, and give, a secret of each kind.
func (p *plants) plantAll(t *testing.T, a *appliance) {
	t.Helper()
	var code struct{ Code string }
	a.once(t, "/setup/code", "", &code)
	p.plant("the code", code.Code)
	var session model.Session
	header := a.once(t, "/setup", fmt.Sprintf(`{"code":%q,"name":"marta","password":%q}`, code.Code, p.plant("marta's password", "seven quiet otters swim")), &session)
	cookie, err := http.ParseSetCookie(header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	p.plant("marta's session", cookie.Value)
	var token struct{ Text string }
	a.once(t, "/tokens", `{"name":"nightly","role":"operator"}`, &token)
	p.plant("the token", token.Text)
	p.ask(t, a, "POST", "/users", fmt.Sprintf(`{"name":"tom","role":"viewer","password":%q}`, p.plant("tom's password", "nine loud geese run home")))
	p.ask(t, a, "PATCH", "/users/tom", fmt.Sprintf(`{"password":%q}`, p.plant("tom's new password", "three green newts doze on")))
	p.ask(t, a, "POST", "/session", fmt.Sprintf(`{"name":"tom","password":%q}`, p.plant("a wrong password", "two wrong wombats walk by")))
	p.ask(t, a, "PUT", "/secrets/files-luks", fmt.Sprintf(`{"value":%q}`, p.plant("the passphrase", "eleven-lost-lemurs-leap")))
	p.ask(t, a, "PUT", "/secrets/vc1-password", fmt.Sprintf(`{"value":%q}`, p.plant("a vCenter's refused password", "ten-tense-toads-trot")))
	p.ask(t, a, "GET", "/vsphere/vc1/vms", "")
	p.ask(t, a, "GET", "/vsphere/vc1/check", "")
	p.ask(t, a, "PUT", "/secrets/vc1-password", fmt.Sprintf(`{"value":%q}`, p.plant("a vCenter's password", "vcenters-wary-walrus")))
	p.ask(t, a, "PUT", "/secrets/other", fmt.Sprintf(`{"value":%q,"more":1}`, p.plant("a refused secret", "six-sad-seals-sleep")))
}

// ask sends a request over the socket, and looks at what is answered.
func (p *plants) ask(t *testing.T, a *appliance, method, path, body string) []byte {
	t.Helper()
	_, text := a.send(t, method, path, body)
	p.look("the reply to "+method+" "+path, text)
	return text
}

// migrate has a guest with an encrypted disk migrated.
func (p *plants) migrate(t *testing.T, a *appliance) {
	t.Helper()
	from := filepath.Join(a.folder, "from")
	small, locked := filepath.Join(from, "small.raw"), filepath.Join(from, "locked.raw")
	if err := guesttest.Small(t.Context(), small, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(locked, nil, 0o600), os.Truncate(locked, 32<<20)); err != nil {
		t.Fatal(err)
	}
	commands := []proc.Command{
		{Name: "cryptsetup", Stdin: strings.NewReader(p.all["the passphrase"]), Args: []string{"luksFormat", "--batch-mode", "--type=luks1", "--pbkdf-force-iterations=1000", "--key-file=-", locked}},
		{Name: "qemu-img", Args: []string{"convert", "-f", "raw", "-O", "vmdk", small, filepath.Join(from, "small.vmdk")}},
		{Name: "qemu-img", Args: []string{"convert", "-f", "raw", "-O", "vmdk", locked, filepath.Join(from, "locked.vmdk")}},
	}
	for _, c := range commands {
		if _, err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	vmx := "config.version = \"8\"\nvirtualHW.version = \"19\"\ndisplayName = \"small\"\nmemsize = \"256\"\nscsi0.present = \"TRUE\"\nscsi0.virtualDev = \"pvscsi\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"small.vmdk\"\nscsi0:1.present = \"TRUE\"\nscsi0:1.fileName = \"locked.vmdk\"\n"
	if err := os.WriteFile(filepath.Join(from, "small.vmx"), []byte(vmx), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, a, "planted", `{"id":"planted","spec":{"source":{"storage":"from","path":"small.vmx"},"target":{"storage":"to"},"engine":"direct","keys":[{"device":"all","secret":"files-luks"}],"test":{"skip":"not part of this"}}}`)
}

// run has a migration done.
func (p *plants) run(t *testing.T, a *appliance, id, body string) {
	t.Helper()
	p.ask(t, a, "POST", "/migrations", body)
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var m model.Migration
		text := p.ask(t, a, "GET", "/migrations/"+id, "")
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		if m.State == model.StateDone {
			return
		}
		if m.State == model.StateFailed || time.Now().After(limit) {
			t.Fatalf("it is %s", text)
		}
	}
}

// events looks at all that were told, and at what is told within a second of the end.
func (p *plants) events(t *testing.T, a *appliance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://appliance/api/v1/events?from=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := a.local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	ended := false
	for part := make([]byte, 32<<10); err == nil; { // until it is given up
		var n int
		n, err = reply.Body.Read(part)
		text = append(text, part[:n]...)
		if !ended && bytes.Contains(text, []byte(`"state":"done"`)) {
			ended = true
			time.AfterFunc(time.Second, cancel)
		}
	}
	if err := reply.Body.Close(); err != nil || !ended {
		t.Errorf("the events are %s, %v", text, err)
	}
	p.look("an event", text)
}

// TestPlantedSecretsAreNowhere: not in a reply but the one that is to show it, a log
// line, the audit log, an event, a file of the state or of the results, nor in the
// arguments or the environment of any process, while a guest with a key is migrated.
func TestPlantedSecretsAreNowhere(t *testing.T) {
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon", "cryptsetup"})...)
	p := &plants{all: map[string]string{}, seen: map[string]bool{}}
	v := newSite(t)
	vm := v.guest(t, "web01")
	a := started(t, t.TempDir(), "log: {level: debug}\n"+v.settings)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	runners := make(chan int, 1)
	go func() { runners <- p.watch(ctx) }()
	p.plantAll(t, a)
	p.migrate(t, a)
	p.run(t, a, "planted-vm", `{"id":"planted-vm","spec":`+v.spec(vm, "")+`}`)
	v.wants(t, vm, off)
	cancel()
	if n := <-runners; n == 0 {
		t.Error("no runner was seen: nothing is proved of processes")
	}
	for _, path := range []string{"/users", "/tokens", "/secrets", "/certificates", "/session", "/audit?limit=1000", "/migrations", "/migrations/planted/plan", "/migrations/planted/facts", "/operations/planted.1", "/appliances", "/host", "/vsphere", "/vsphere/vc1/vms", "/vsphere/vc1/check?vm=web01", "/vsphere/vc1/vms/" + vm.Ref.Value, "/migrations/planted-vm/plan", "/operations/planted-vm.1"} {
		p.ask(t, a, "GET", path, "")
	}
	if facts := p.ask(t, a, "GET", "/migrations/planted/facts", ""); !bytes.Contains(facts, []byte("luks")) {
		t.Errorf("the key was not for anything: %s", facts)
	}
	var list struct{ Items []model.File }
	if err := json.Unmarshal(p.ask(t, a, "GET", "/migrations/planted/files", ""), &list); err != nil || len(list.Items) < 4 {
		t.Errorf("the files are %+v, %v", list.Items, err)
	}
	for _, f := range list.Items {
		p.ask(t, a, "GET", "/migrations/planted/files/"+f.Path, "")
	}
	for name, text := range opened(t, p.ask(t, a, "POST", "/support-bundle", "")) {
		p.look("the support bundle's "+name, text)
	}
	p.events(t, a)
	a.stop(t)
	p.look("the log", []byte(a.log.String()))
	p.look("what is printed", []byte(a.out.String()))
	if n := p.files(t, filepath.Join(a.folder, "state")) + p.files(t, filepath.Join(a.folder, "to")); n < 10 {
		t.Errorf("only %d files were looked at", n)
	}
	for where := range p.seen {
		t.Error(where)
	}
}
