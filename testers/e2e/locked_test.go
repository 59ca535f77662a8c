package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/guests"
)

// keysOf are the passphrases of a guest, as --key gives them; nil if it has none.
func keysOf(g guests.Guest) *guest.Keyring {
	var keys []guest.Key
	for i, d := range g.Disks {
		for n, p := range d.Partitions {
			if p.Locked.Name != "" {
				keys = append(keys, guest.Key{For: fmt.Sprintf("disk%dp%d", i, n+1), Secrets: []guest.Secret{guest.Secret(p.Locked.Passphrase)}})
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return guest.NewKeyring(keys)
}

// unseen looks for the passphrases of a guest in all that a migration leaves, and in
// what else is given: logs.
func unseen(t *testing.T, folder string, g guests.Guest, logs ...string) {
	t.Helper()
	seen := func(where string, text []byte) {
		for _, d := range g.Disks {
			for _, p := range d.Partitions {
				secret := p.Locked.Passphrase
				for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
					if secret != "" && bytes.Contains(text, []byte(form)) {
						t.Errorf("the passphrase is in %s", where)
					}
				}
			}
		}
	}
	files := 0
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Ext(path) == ".qcow2" {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		seen(path, text)
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files looked at in %s, %v", files, folder, err)
	}
	for _, log := range logs {
		seen("a log", []byte(log))
	}
}

// answeredOn looks where a passphrase was typed: on the serial port on both boots with the
// probe, and where the guest has its console without it.
func answeredOn(t *testing.T, folder, console string) {
	t.Helper()
	for session, want := range map[string][]string{"probe": {"serial", "serial"}, "clean": {console}} {
		text, err := os.ReadFile(filepath.Join(folder, "evidence", session, "session.json"))
		if err != nil {
			t.Fatal(err)
		}
		var s testers.Session
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		var typed []string
		for _, b := range s.Boots {
			for _, sign := range b.Signs {
				if sign.Name == testers.PassphrasePrompt && sign.Note == "the passphrase was typed" {
					typed = append(typed, sign.Where)
				}
			}
		}
		if !slices.Equal(typed, want) {
			t.Errorf("%s: the passphrase was typed on %q, want %q", session, typed, want)
		}
	}
}

// The right passphrase is typed, and the guest does not take it: its initrd reads four
// characters of it. What is typed may be wrong for other reasons, such as another
// layout of the keyboard in the initrd.
func TestAPassphraseThatIsNotTakenIsTheCause(t *testing.T) {
	x := trial{guest: "vault01"}
	x.needed(t)
	g, folder := x.build(t), filepath.Join(t.TempDir(), "vault01")
	done, err := runWith(t, folder, pipeline.Options{Source: g.VMX, Skip: map[string]string{"test": "it is spoiled first"}}, keysOf(g))
	if err != nil {
		t.Fatal(err)
	}
	deafen(t, done.Disks[0].Path, g)
	var log bytes.Buffer
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Keys: keysOf(g), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Tell: func(e pipeline.Event) { fmt.Fprintln(&log, e.Text); t.Log(e.Text) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.Retest(t.Context(), pipeline.WithQEMU, "")
	if !errors.Is(err, pipeline.ErrNotProved) {
		t.Fatalf("a guest that takes no passphrase: %v, want %v", err, pipeline.ErrNotProved)
	}
	for _, want := range []string{"boot-target-reached: ", "Please unlock disk sda2_crypt", "typed 2 times", "US keyboard"} {
		if !strings.Contains(r.Outcome.Cause, want) {
			t.Errorf("the cause is %q, want %q in it", r.Outcome.Cause, want)
		}
	}
	unseen(t, folder, g, log.String())
}

// deafen has the initrds on the first partition of a converted disk read a part of the
// passphrase alone.
func deafen(t *testing.T, converted string, g guests.Guest) {
	t.Helper()
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: converted}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := storage.Raw(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for version := range g.Initrds {
		appendOnDisk(t, raw, "initrd.img-"+version, deaf(t, g.Disks[0].Partitions[1].Locked))
	}
	if err := storage.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// deaf is an archive with an initrd's crypttab.
func deaf(t *testing.T, l guests.Locked) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	table := fmt.Sprintf("%s UUID=%s none luks,keyfile-size=4\n", l.Name, l.UUID)
	if err := errors.Join(cpio.WriteRecords(w, []cpio.Record{cpio.StaticFile("cryptroot/crypttab", table, 0o644)}), cpio.WriteTrailer(w)); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// appendOnDisk appends to a file of a disk's first partition, from a multiple of four on.
func appendOnDisk(t *testing.T, raw, name string, more []byte) {
	t.Helper()
	at, file := fmt.Sprintf("%s?offset=%d", raw, rootOffset), filepath.Join(t.TempDir(), name)
	if _, err := proc.Run(t.Context(), "debugfs", "-R", "dump "+name+" "+file, at); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 {
		t.Fatalf("%s has %d bytes, %v", name, len(text), err)
	}
	text = append(append(text, make([]byte, -len(text)&3)...), more...)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"rm " + name, "write " + file + " " + name} {
		if _, err := proc.Run(t.Context(), "debugfs", "-w", "-R", command, at); err != nil {
			t.Fatal(err)
		}
	}
}
