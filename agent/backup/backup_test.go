package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/engine/enginetest"
	"hyper2kvm/agent/seal"
)

// appliance is an engine with all that an agent keeps in it.
type appliance struct {
	*engine.Engine
	gate    *auth.Gate
	secrets *seal.Secrets
	state   string
}

func opened(t *testing.T, state string) *appliance {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := engine.Open(t.Context(), engine.Config{State: state, Name: "a1", Version: "test", Storages: []string{"from", "to"}, Capacity: 2, Lease: 5 * time.Second, Worker: every{}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Load(filepath.Join(state, "seal.key"))
	if err != nil {
		t.Fatal(errors.Join(err, e.Close()))
	}
	a := &appliance{e, auth.New(e.States(), e, time.Now), seal.NewSecrets(e.States(), sealer), state}
	t.Cleanup(func() { a.close(t) })
	return a
}

func (a *appliance) close(t *testing.T) {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

const (
	passphrase = "correct horse battery"
	password   = "seven quiet otters swim"
	secretText = "the-passphrase-of-a-guests-disk"
)

// lived is an appliance with some migrations, a user, a token, a secret, private files
// and an audit log.
func lived(t *testing.T) (a *appliance, token string) {
	t.Helper()
	a = opened(t, t.TempDir())
	for i := range 5 {
		a.submit(t, fmt.Sprintf("vm%d", i))
	}
	for i := range 5 {
		a.done(t, fmt.Sprintf("vm%d", i))
	}
	if err := a.Keep(t.Context(), "vm0", []engine.File{enginetest.File("vm0-report.md", "# report")}); err != nil {
		t.Fatal(err)
	}
	root := auth.Local("root", auth.Admin)
	if err := a.gate.CreateUser(t.Context(), root, "marta", auth.Operator, password); err != nil {
		t.Fatal(err)
	}
	made, _, err := a.gate.CreateToken(t.Context(), root, auth.NewToken{Name: "ci", Role: auth.Viewer})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.secrets.Put(t.Context(), "files-luks", seal.Secret(secretText)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(a.state, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.state, "tls", "own.pem"), []byte("PRIVATE-KEY-OF-THE-CERTIFICATE"), 0o600); err != nil {
		t.Fatal(err)
	}
	return a, string(made)
}

func (a *appliance) submit(t *testing.T, id string) {
	t.Helper()
	s := model.Spec{Source: model.Source{Storage: "from", Path: id + ".vmx"}, Target: model.Target{Storage: "to"}}
	if _, err := a.Submit(t.Context(), id, s, id, "ops", ""); err != nil {
		t.Error(err)
	}
}

func (a *appliance) done(t *testing.T, id string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m, err := a.View(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if m.State == model.StateDone {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %s", id, m.State)
		}
	}
}

// all are the migrations with their records' revisions.
func (a *appliance) all() map[string]model.Migration {
	list := map[string]model.Migration{}
	a.All(func(m *model.Migration) { list[m.ID] = *m })
	return list
}

// saved makes a backup of an appliance, as a file.
func (a *appliance) saved(t *testing.T, passphrase string) string {
	t.Helper()
	s := &Source{Engine: a.Engine, State: a.state, About: About{Version: "test", Appliance: "a1", ID: a.ID()}, Settings: "storages: []\n", Now: time.Now}
	made, err := s.Make(t.Context(), seal.Secret(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), made.Name())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = made.Send(f)
	if err := errors.Join(err, f.Close(), made.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(a.state, "backup")); err == nil {
		t.Error("what was made for it is left")
	}
	return path
}

func restored(t *testing.T, archive, passphrase string) (string, Restored) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	done, err := Restore(t.Context(), archive, state, seal.Secret(passphrase), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return state, done
}

func TestAnApplianceIsAsItWas(t *testing.T) {
	a, token := lived(t)
	archive := a.saved(t, passphrase)
	want, id := a.all(), a.ID()
	audit, err := a.Audited(t.Context(), 0, 100)
	if err != nil || len(audit) < 2 {
		t.Fatalf("the audit log has %d entries, %v", len(audit), err)
	}
	a.close(t)
	state, done := restored(t, archive, passphrase)
	if !done.Keys || done.ID != id || done.Appliance != "a1" {
		t.Errorf("restored is %+v", done)
	}
	b := opened(t, state)
	if diff := cmp.Diff(want, b.all()); diff != "" || len(want) != 5 {
		t.Errorf("the %d migrations are others: %s", len(want), diff)
	}
	if b.ID() != id {
		t.Errorf("its ID is %s, was %s", b.ID(), id)
	}
	if p, err := b.gate.Token(t.Context(), netip.Addr{}, token); err != nil || p.Role != auth.Viewer {
		t.Errorf("the token: %+v, %v", p, err)
	}
	if _, err := b.gate.Login(t.Context(), netip.MustParseAddr("192.0.2.1"), "marta", password); err != nil {
		t.Errorf("the user: %v", err)
	}
	if s, err := b.secrets.Open(t.Context(), "files-luks"); err != nil || string(s) != secretText {
		t.Errorf("the secret does not open: %v", err)
	}
	after, err := b.Audited(t.Context(), audit[0].Number+1, 100)
	if diff := cmp.Diff(audit, after); err != nil || diff != "" {
		t.Errorf("the audit log is another: %v %s", err, diff)
	}
	if r, _, err := b.OpenKept(t.Context(), "vm0", "vm0-report.md"); err != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(r); err != nil || string(text) != "# report" || r.Close() != nil {
		t.Errorf("the report is %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(state, "tls", "own.pem")); err != nil || string(text) != "PRIVATE-KEY-OF-THE-CERTIFICATE" {
		t.Errorf("the certificate's key: %q, %v", text, err)
	}
	b.submit(t, "later")
	b.done(t, "later")
}

// TestABackupIsMadeWhileMigrationsBegin: each that is in it is whole.
func TestABackupIsMadeWhileMigrationsBegin(t *testing.T) {
	a, _ := lived(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			a.submit(t, fmt.Sprintf("more%d", i))
		}
	})
	time.Sleep(50 * time.Millisecond)
	archive := a.saved(t, "")
	cancel()
	group.Wait()
	state, _ := restored(t, archive, "")
	b := opened(t, state)
	if n := len(b.all()); n < 6 || n > len(a.all()) {
		t.Errorf("there are %d migrations, of %d", n, len(a.all()))
	}
	for id := range b.all() {
		b.done(t, id)
	}
	t.Logf("%d of %d migrations are in it", len(b.all()), len(a.all()))
}

func TestWithoutThePassphraseThereAreNoKeys(t *testing.T) {
	a, token := lived(t)
	key, err := os.ReadFile(filepath.Join(a.state, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"", passphrase} {
		archive := a.saved(t, given)
		plain := unpacked(t, archive)
		for what, secret := range map[string]string{"the key": strings.TrimSpace(string(key)), "the key's bytes": string(raw), "a password": password, "a token": token, "a secret": secretText, "the certificate's key": "PRIVATE-KEY", "the passphrase": passphrase} {
			if bytes.Contains(plain, []byte(secret)) {
				t.Errorf("the archive shows %s", what)
			}
		}
	}
	state, done := restored(t, a.saved(t, ""), "")
	b := opened(t, state)
	if _, err := b.secrets.Open(t.Context(), "files-luks"); !errors.Is(err, seal.ErrNoKey) || done.Keys {
		t.Errorf("a secret opens without its key: %v, %+v", err, done)
	}
}

// unpacked is all that is in an archive, with what is packed in it once more. How the
// streams of an engine are packed is the engine's own; that a restored one holds no
// secret in the open is looked for in its files.
func unpacked(t *testing.T, archive string) []byte {
	t.Helper()
	all, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := restored(t, archive, "")
	err = filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, text...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(all, []byte("files-luks")) {
		t.Error("what is looked through holds no name of a secret, so this proves nothing")
	}
	return all
}

func TestWhatIsNoBackupIsRefused(t *testing.T) {
	a, _ := lived(t)
	good, err := os.ReadFile(a.saved(t, passphrase))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(good)
	damaged[bytes.Index(good, []byte("streams/KV_jobs\x00"))+1024] ^= 1
	for name, c := range map[string]struct {
		archive    []byte
		passphrase string
		want       error
		text       string
	}{
		"damaged":         {damaged, "", ErrArchive, "streams/KV_jobs is damaged"},
		"cut short":       {good[:len(good)/2], "", ErrArchive, "cut short"},
		"without its end": {good[:bytes.LastIndex(good, []byte("manifest.json\x00"))], "", ErrArchive, "cut short"},
		"nothing":         {nil, "", ErrArchive, "manifest.json is missing"},
		"no tar":          {[]byte(strings.Repeat("x", 2000)), "", ErrArchive, "it is no backup"},
		"newer":           {changed(t, good, aboutName, func(b []byte) []byte { return bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1) }), "", ErrArchive, "format 2"},
		"a way out":       {renamed(t, good, "streams/AUDIT", "streams/../../x"), "", ErrArchive, "has no place in it"},
		"missing":         {renamed(t, good, "streams/AUDIT", ""), "", ErrArchive, "streams/AUDIT is missing"},
		"wrong":           {good, "wrong horse battery", ErrPassphrase, "does not open"},
	} {
		t.Run(name, func(t *testing.T) {
			file, state := filepath.Join(t.TempDir(), "archive"), t.TempDir()
			if err := os.WriteFile(file, c.archive, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Restore(t.Context(), file, state, seal.Secret(c.passphrase), slog.New(slog.DiscardHandler))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v: %s", err, c.want, c.text)
			}
			if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
				t.Errorf("left is %v, %v", left, err)
			}
		})
	}
	if _, err := Restore(t.Context(), "none", a.state, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrState) {
		t.Errorf("into a state that is there: %v", err)
	}
	short := &Source{Engine: a.Engine, State: a.state, Now: time.Now}
	if _, err := short.Make(t.Context(), seal.Secret("short")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("with a short passphrase: %v", err)
	}
}

// changed is an archive with another content of a file, and a manifest that knows.
func changed(t *testing.T, archive []byte, name string, edit func([]byte) []byte) []byte {
	t.Helper()
	return rewritten(t, archive, func(w *writer, head *tar.Header, text []byte) error {
		if head.Name == name {
			text = edit(text)
		}
		return w.text(head.Name, text)
	})
}

// renamed is an archive with another name of a file that its manifest does not know; ""
// leaves it out.
func renamed(t *testing.T, archive []byte, was, now string) []byte {
	t.Helper()
	return rewritten(t, archive, func(w *writer, head *tar.Header, text []byte) error {
		if head.Name != was {
			return w.text(head.Name, text)
		}
		w.note(was, int64(len(text)), nil)
		if now == "" {
			return nil
		}
		return w.text(now, text)
	})
}

func rewritten(t *testing.T, archive []byte, each func(*writer, *tar.Header, []byte) error) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &writer{tar: tar.NewWriter(&b), manifest: map[string]file{}}
	in := tar.NewReader(bytes.NewReader(archive))
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if head.Name == manifestName {
			continue
		}
		if err := each(w, head, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.json(manifestName, w.manifest), w.tar.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzKeys(f *testing.F) {
	k := keys{Salt: []byte("12345678"), Time: 1, Memory: 8, Threads: 1, Sealed: make([]byte, 60)}
	text, err := json.Marshal(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var k keys
		if json.Unmarshal(text, &k) == nil && (k.Memory > 1024 || k.Time > 2) {
			return // which would only take long
		}
		if files, err := openKeys(text, seal.Secret(passphrase)); err == nil {
			t.Errorf("%q opens: %v", text, files)
		}
	})
}
