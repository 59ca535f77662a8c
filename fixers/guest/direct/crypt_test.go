package direct

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

func needLocked(t *testing.T) {
	t.Helper()
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.VolumePrograms, guesttest.LockedPrograms)...)
}

func unlock(t *testing.T, keys *guest.Keyring, disks ...string) *shown {
	t.Helper()
	g, err := Open(context.Background(), disks, keys, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { g.Close() })
	return g.(*shown)
}

func TestWhatIsEncryptedIsNamed(t *testing.T) {
	needLocked(t)
	disks := guesttest.Locked(t)
	g := openDisks(t, disks...)
	var got []string
	for _, v := range g.Topology().Volumes {
		if v.Crypt == nil {
			continue
		}
		got = append(got, v.On[0])
		if !strings.HasPrefix(v.Name, "luks/11111111-") || v.Problem != "it is encrypted, and no key was given for it: give --key "+v.On[0]+":file:FILE" || v.Crypt.Key != nil || v.Segments != nil {
			t.Errorf("%+v, %+v", v, v.Crypt)
		}
	}
	if want := []string{"disk0p1", "disk0p2", "plain-vg/box", "disk0p4", "md/root"}; !slices.Equal(got, want) {
		t.Errorf("encrypted are %q, want %q", got, want)
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func TestAKeyThatOpensNothingIsTold(t *testing.T) {
	needLocked(t)
	disk := guesttest.Locked(t)[0]
	key := func(device, passphrase string) guest.Key {
		return guest.Key{For: device, Secrets: []guest.Secret{guest.Secret(passphrase)}}
	}
	const uuid = "11111111-2222-4333-8444-555555555562"
	for name, c := range map[string]struct {
		keys []guest.Key
		want string
	}{
		"wrong for a device":   {[]guest.Key{key("disk0p2", "wrong")}, "the key for disk0p2 opens nothing on disk0p2"},
		"wrong by UUID":        {[]guest.Key{key(strings.ToUpper(uuid), "wrong")}, "the key for " + uuid + " opens nothing on disk0p2"},
		"wrong for all":        {[]guest.Key{key("all", "wrong")}, "the key for all opens nothing on disk0p1, disk0p2, disk0p4"},
		"of another guest":     {[]guest.Key{key("disk7p1", "wrong")}, "the key for disk7p1 is for nothing: encrypted are disk0p1 (11111111-"},
		"one right, one wrong": {[]guest.Key{key("disk0p2", guesttest.Passphrase), key("disk0p4", "wrong")}, "the key for disk0p4 opens nothing on disk0p4"},
	} {
		keys := guest.NewKeyring(c.keys)
		g := unlock(t, keys, disk)
		top := g.Topology()
		for i := range top.Volumes {
			top.Volumes[i].Unsupported = "" // whatever this kernel can
		}
		if err := keys.Check(top); !errors.Is(err, guest.ErrKey) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.want)) {
			t.Errorf("%s: Check = %v, want %q", name, err, c.want)
		}
		must(t, g.Close())
	}
	if err := guesttest.Keys().Check(guest.Topology{}); err == nil || !strings.Contains(err.Error(), "no device of this guest is encrypted") {
		t.Errorf("Check of a guest that is not encrypted = %v", err)
	}
}

func TestWithoutDeviceMapperWhatIsEncryptedIsUnsupported(t *testing.T) {
	needLocked(t)
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		t.Skip("this kernel has device-mapper")
	}
	keys := guesttest.Keys()
	g := unlock(t, keys, guesttest.Locked(t)...)
	for _, v := range g.Topology().Volumes {
		if v.Crypt != nil && v.Problem == "" && !strings.Contains(v.Unsupported, "it is encrypted, and device-mapper does not work here") {
			t.Errorf("%+v", v)
		}
	}
	must(t, keys.Check(g.Topology())) // another engine may see more
	must(t, g.Close())
}

func TestWhatIsEncryptedIsOpenedWithItsKey(t *testing.T) {
	needMapper(t)
	needLocked(t)
	disks := guesttest.Locked(t)
	keys := guesttest.Keys()
	g := unlock(t, keys, disks...)
	guesttest.Unlocked(t, g)
	must(t, g.Close())
	requireNothingLeft(t, disks)
	again := unlock(t, keys, disks...)
	guesttest.UnlockedBefore(t, again)
	must(t, again.Close())
	requireNothingLeft(t, disks)
	legs := [][]byte{outside(t, disks[1])[2<<20 : 13<<20], outside(t, disks[2])[2<<20 : 13<<20]}
	if !bytes.Equal(legs[0], legs[1]) {
		t.Error("the array's members are not equal")
	}
	if bytes.Contains(outside(t, disks[0]), []byte("written to")) {
		t.Error("what was written can be read on the disk")
	}
}

func TestAKeyMayTakeMuchMemory(t *testing.T) {
	needLocked(t)
	name := filepath.Join(t.TempDir(), "costly.raw")
	must(t, errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 32<<20)))
	const kib = 320 << 10 // twice what the mounter has without a key
	_, err := proc.Command{Name: "cryptsetup", Stdin: strings.NewReader(guesttest.Passphrase), Args: []string{"luksFormat", "--batch-mode", "--type=luks2",
		fmt.Sprintf("--pbkdf-memory=%d", kib), "--pbkdf-force-iterations=4", "--pbkdf-parallel=1", "--key-file=-", name}}.Run(t.Context())
	must(t, err)
	keys := guesttest.Keys()
	began := time.Now()
	g := unlock(t, keys, name)
	first := time.Since(began)
	if !keys.Opens[0] {
		t.Errorf("the key opens nothing: %+v", keys.Why)
	}
	must(t, g.Close())
	began = time.Now()
	again := unlock(t, keys, name)
	second := time.Since(began)
	t.Logf("opened in %v, and once more in %v", first, second)
	if second > first/2 {
		t.Error("what the key had opened was not kept")
	}
	must(t, again.Close())
}

// TestAKeyIsInNobodysTable: root sees tables without their keys.
func TestAKeyIsInNobodysTable(t *testing.T) {
	control := needMapper(t)
	needLocked(t)
	guesttest.Need(t, "dmsetup")
	g := unlock(t, guesttest.Keys(), guesttest.Locked(t)[0])
	names, err := listMapped(control)
	must(t, err)
	if len(names) != 3 {
		t.Errorf("devices: %q", names)
	}
	for _, name := range names {
		out, err := proc.Run(t.Context(), "dmsetup", "table", name)
		must(t, err)
		if !strings.Contains(string(out), "crypt aes-xts-plain64 0000") {
			t.Errorf("dmsetup says %q", out)
		}
	}
	must(t, g.Close())
	requireNoneMapped(t, control)
}
