package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func wants(t *testing.T, doing string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s: %v, want %v", doing, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sealer has keys that are told by their first byte.
func sealer(firsts ...byte) *Sealer {
	s := &Sealer{}
	for _, first := range firsts {
		k, err := newKey(bytes.Repeat([]byte{first}, keySize))
		if err != nil {
			panic(err)
		}
		s.keys = append(s.keys, k)
	}
	return s
}

func TestWhatIsSealedOpensUnderItsNameAlone(t *testing.T) {
	s := sealer(1)
	for _, text := range []string{"", "sesame", strings.Repeat("x", MostSecret)} {
		blob := s.Seal("luks", []byte(text))
		got, err := s.Open("luks", blob)
		if err != nil || string(got) != text {
			t.Errorf("Open = %d bytes, %v, want %d", len(got), err, len(text))
		}
		if text != "" && bytes.Contains(blob, []byte(text)) {
			t.Error("it is not encrypted")
		}
		for _, other := range []string{"", "luk", "luks2", "LUKS"} {
			_, err := s.Open(other, blob)
			wants(t, "under the name "+other, err, ErrDamaged)
		}
	}
	if bytes.Equal(s.Seal("luks", []byte("sesame")), s.Seal("luks", []byte("sesame"))) {
		t.Error("the same is sealed the same way twice")
	}
}

func TestWhatWasChangedDoesNotOpen(t *testing.T) {
	s := sealer(1)
	blob := s.Seal("luks", []byte("sesame"))
	for i := range blob {
		for bit := range 8 {
			changed := bytes.Clone(blob)
			changed[i] ^= 1 << bit
			if got, err := s.Open("luks", changed); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoKey) || got != nil {
				t.Fatalf("with bit %d of byte %d changed: %q, %v", bit, i, []byte(got), err)
			}
		}
	}
	for n := range blob {
		_, err := s.Open("luks", blob[:n])
		wants(t, fmt.Sprint("cut to ", n), err, ErrDamaged)
	}
	_, err := s.Open("luks", append(blob, 0))
	wants(t, "with a byte more", err, ErrDamaged)
}

func TestAnEarlierKeyOpensAndALaterOneSeals(t *testing.T) {
	old, both, renewed := sealer(1), sealer(2, 1), sealer(2)
	blob := old.Seal("luks", []byte("sesame"))
	got, err := both.Open("luks", blob)
	if err != nil || string(got) != "sesame" {
		t.Errorf("Open = %v", err)
	}
	_, err = renewed.Open("luks", blob)
	wants(t, "without the old key", err, ErrNoKey)
	_, err = old.Open("luks", both.Seal("luks", []byte("sesame")))
	wants(t, "sealed with the new key", err, ErrNoKey)
	// The key's ID is bound: with another one there it is not tried.
	copy(blob[1:], renewed.keys[0].id[:])
	_, err = both.Open("luks", blob)
	wants(t, "with another key's ID", err, ErrDamaged)
}

func TestNeitherKeysNorSecretsAreSeen(t *testing.T) {
	s := sealer('k')
	secret, err := s.Open("luks", s.Seal("luks", []byte("sesame")))
	must(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "sealer", s)
	text, err := json.Marshal(map[string]any{"secret": secret, "secrets": []Secret{secret}, "sealer": s})
	must(t, err)
	all := log.String() + string(text) + fmt.Sprintf("%v %+v %#v %s %q %x %d", secret, secret, secret, secret, secret, secret, secret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d", "%c"} {
		all += fmt.Sprintf(verb, s.keys) + fmt.Sprintf(verb, s) + fmt.Sprintf(verb, *s) + fmt.Sprintf(verb, NewSecrets(nil, s))
	}
	for _, seen := range []string{"sesame", fmt.Sprintf("%x", "sesame"), "115 101", "0x73, 0x65", "c2VzYW1l", "kkkk", "6b6b6b", "107 107", "0x6b, 0x6b", "a2tr"} {
		if strings.Contains(all, seen) {
			t.Errorf("%q is in %s", seen, all)
		}
	}
	secret.Wipe()
	if string(secret) != strings.Repeat("\x00", 6) {
		t.Error("it was not wiped")
	}
}

// kept is "sesame", as the first version sealed it for luks with the key 1.
const kept = "0189b83e9fab81edcbea6c6c31b393b23c04420d0804dff67761cbe85c7b01cd5775270c9474951a44d9aeb17234725c84bafd93570e00"

func TestWhatTheFirstVersionSealedOpens(t *testing.T) {
	blob, err := hex.DecodeString(kept)
	must(t, err)
	if got, err := sealer(1).Open("luks", blob); err != nil || string(got) != "sesame" {
		t.Errorf("Open = %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(1)
	blob, _ := hex.DecodeString(kept)
	f.Add("luks", blob)
	f.Add("luks", blob[:headSize])
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, name string, sealed []byte) {
		if _, err := s.Open(name, sealed); err == nil && (name != "luks" || !bytes.Equal(sealed, blob)) {
			t.Errorf("Open(%q, %x) succeeded", name, sealed)
		}
	})
}

// off makes as if systemd had given no credentials, and returns a name for a key file.
func off(t *testing.T) string {
	t.Helper()
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	folder := t.TempDir()
	must(t, os.Chmod(folder, 0o755))
	return filepath.Join(folder, "seal.key")
}

func TestTheKeyFileIsMadeOnce(t *testing.T) {
	file := off(t)
	s, err := Load(file)
	must(t, err)
	info, err := os.Lstat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("its mode is %v, %v", info.Mode(), err)
	}
	again, err := Load(file)
	must(t, err)
	if got, err := again.Open("luks", s.Seal("luks", []byte("sesame"))); err != nil || string(got) != "sesame" {
		t.Errorf("after another start: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestThoseWhoStartAtOnceGetOneKey(t *testing.T) {
	file := off(t)
	var all sync.WaitGroup
	var sealers [8]*Sealer
	for i := range sealers {
		all.Go(func() {
			var err error
			if sealers[i], err = Load(file); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range sealers {
		if s != nil && s.keys[0].id != sealers[0].keys[0].id {
			t.Fatal("they have several")
		}
	}
}

func TestAKeyFileThatOthersReachIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"group":         func(t *testing.T, file string) { must(t, os.Chmod(file, 0o640)) },
		"others":        func(t *testing.T, file string) { must(t, os.Chmod(file, 0o604)) },
		"writable":      func(t *testing.T, file string) { must(t, os.Chmod(file, 0o602)) },
		"symbolic link": func(t *testing.T, file string) { link(t, file, file+".real") },
		"to nothing": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Symlink(file+".gone", file))
		},
		"folder of others": func(t *testing.T, file string) { must(t, os.Chmod(filepath.Dir(file), 0o777)) },
		"folder itself": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		},
		"empty": func(t *testing.T, file string) { must(t, os.Truncate(file, 0)) },
		"cut":   func(t *testing.T, file string) { must(t, os.Truncate(file, 20)) },
		"very large": func(t *testing.T, file string) {
			key, err := os.ReadFile(file)
			must(t, err)
			must(t, os.WriteFile(file, append(key, "#"+strings.Repeat("x", 64<<10)...), 0o600))
		},
		"sparse": func(t *testing.T, file string) { must(t, os.Truncate(file, 1<<40)) },
	} {
		t.Run(name, func(t *testing.T) {
			file := off(t)
			_, err := Load(file)
			must(t, err)
			key, err := os.ReadFile(file)
			must(t, err)
			spoil(t, file)
			_, err = Load(file)
			if err == nil || strings.Contains(err.Error(), string(key[:10])) {
				t.Errorf("Load = %v", err)
			}
			if err := Rotate(file); err == nil {
				t.Error("it was rotated")
			}
		})
	}
}

func link(t *testing.T, file, to string) {
	must(t, os.Rename(file, to))
	must(t, os.Symlink(to, file))
}

func TestAKeyFileOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal("only root can give a file away")
		}
		t.Skip("only root can give a file away")
	}
	file := off(t)
	_, err := Load(file)
	must(t, err)
	must(t, os.Chown(file, 12345, 0))
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "12345") {
		t.Errorf("Load = %v", err)
	}
}

func TestRotationKeepsTheOldKey(t *testing.T) {
	file := off(t)
	first, err := Load(file)
	must(t, err)
	must(t, Rotate(file))
	second, err := Load(file)
	must(t, err)
	if len(second.keys) != 2 || second.keys[1].id != first.keys[0].id {
		t.Fatalf("%d keys, and the old one is not the second", len(second.keys))
	}
	info, err := os.Lstat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if _, err := second.Open("luks", first.Seal("luks", []byte("x"))); err != nil {
		t.Error(err)
	}
	if err := Rotate(file + ".none"); err == nil {
		t.Error("no file was rotated")
	}
}

func TestSystemdsCredentialIsTakenAlone(t *testing.T) {
	file := off(t)
	folder := t.TempDir()
	must(t, os.Chmod(folder, 0o700))
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "systemd-creds encrypt") {
		t.Errorf("without the credential: %v", err)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("a key file was made beside systemd")
	}
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize))
	credential := filepath.Join(folder, Credential)
	must(t, os.WriteFile(credential, []byte("# made by hand\n\n"+key+"\n"), 0o440))
	s, err := Load(file)
	if err != nil || s.keys[0].id != sealer(7).keys[0].id {
		t.Errorf("Load = %v", err)
	}
	must(t, os.Chmod(credential, 0o444))
	if _, err := Load(file); err == nil {
		t.Error("one that all can read was taken")
	}
}

func TestKeysAreReadStrictly(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize))
	for text, n := range map[string]int{
		key: 1, key + "\n": 1, key + "\r\n": 1, "#x\n" + key + "\n \n" + key: 2,
		"": 0, "#" + key: 0, key[1:]: 0, key + key: 0, key[:40]: 0, "x" + key[1:43] + "!": 0,
		strings.Repeat(key+"\n", 64): 64, strings.Repeat(key+"\n", 65): 0,
	} {
		s, err := parse("f", []byte(text))
		if (err == nil) != (n > 0) || n > 0 && len(s.keys) != n {
			t.Errorf("parse(%.60q) = %v, want %d keys", text, err, n)
		}
	}
}
