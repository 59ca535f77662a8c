package guesttest

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/xts"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// LockedPrograms are those that Locked runs beyond Programs and VolumePrograms.
var LockedPrograms = []string{"cryptsetup"}

// Passphrase opens all but one of the encrypted devices of Locked.
const Passphrase = "open sesame"

// Keys is a ring with a key for all.
func Keys() *guest.Keyring {
	return guest.NewKeyring([]guest.Key{{For: guest.AllDevices, Secrets: []guest.Secret{guest.Secret(Passphrase)}}})
}

// What is encrypted on the disks of Locked, by the topology's names.
const (
	lockedGroup  = "luks/11111111-2222-4333-8444-555555555561"
	lockedData   = "luks/11111111-2222-4333-8444-555555555562"
	lockedVolume = "luks/11111111-2222-4333-8444-555555555563"
	lockedOther  = "luks/11111111-2222-4333-8444-555555555564"
	lockedArray  = "luks/11111111-2222-4333-8444-555555555565"
)

// Locked makes the disks of a guest that is encrypted: one of its own, and two of
// Arrays. LUKS's headers are cryptsetup's.
//
//	disk0p1  LUKS 2, argon2id, with the group crypt-vg inside: its volume root
//	disk0p2  LUKS 1: ext4
//	disk0p3  the group plain-vg, with LUKS 2 on its volume box, in sectors of 4 KiB: ext4
//	disk0p4  LUKS 2 with another passphrase
//	md/root  of disk1 and disk2: LUKS 2, ext4
func Locked(t testing.TB) []string {
	t.Helper()
	return keptLocked.files(t)
}

var keptLocked = kept{name: "locked", make: makeLocked}

func makeLocked(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "locked.raw")
	const mib = 1 << 20
	sparse(t, disk, 96*mib)
	run(t, "label: gpt\nsize=24MiB\nsize=16MiB\nsize=24MiB\nsize=16MiB\n", "sfdisk", "--quiet", disk)
	two := []string{"--type=luks2", "--luks2-metadata-size=16k", "--luks2-keyslots-size=256k", "--offset=2048", "--pbkdf-memory=4096", "--pbkdf-force-iterations=4", "--pbkdf-parallel=1", "--sector-size=512"}
	one := []string{"--type=luks1", "--pbkdf-force-iterations=1000"}

	inside := part(t, dir, "group", 22*mib) // the header takes one MiB, and LVM another
	onLoops(t, []extent{{inside, 0, 22 * mib}}, func(l lvm) {
		l.run("vgcreate", "crypt-vg", l.devices[0])
		l.volume("crypt-vg", "root", "-L16M")
	})
	ext(t, inside, "ext4", 1*mib, 16*mib, "root", "11111111-2222-4333-8444-555555555566", "-d", named(t, "root"))
	encrypt(t, Passphrase, inside, extent{disk, 1 * mib, 24 * mib}, lockedGroup, two)

	encrypt(t, Passphrase, filled(t, dir, "data", 12*mib), extent{disk, 25 * mib, 16 * mib}, lockedData, one)

	onLoops(t, []extent{{disk, 41 * mib, 24 * mib}}, func(l lvm) {
		l.run("vgcreate", "plain-vg", l.devices[0])
		l.volume("plain-vg", "box", "-L16M")
	})
	encrypt(t, Passphrase, filled(t, dir, "volume", 12*mib), extent{disk, 42 * mib, 16 * mib}, lockedVolume, append(slices.Clone(two[:len(two)-1]), "--sector-size=4096"))
	encrypt(t, "another", filled(t, dir, "other", 12*mib), extent{disk, 65 * mib, 16 * mib}, lockedOther, two)

	arrays := unpackArrays(t)[:2]
	array := part(t, dir, "array", 11*mib)
	encrypt(t, Passphrase, filled(t, dir, "array-inside", 8*mib), extent{array, 0, 11 * mib}, lockedArray, two)
	data, err := os.ReadFile(array)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range arrays {
		writeAt(t, member, 2*mib, data) // as guesttest.Arrays has the data of md/root
	}
	return append([]string{disk}, arrays...)
}

// named makes a folder with a file that has a name in it.
func named(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// filled makes an ext4 with a name in it.
func filled(t testing.TB, dir, name string, size int64) string {
	t.Helper()
	file := part(t, dir, name, size)
	run(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", name, "-d", named(t, name), file)
	return file
}

// encrypt has cryptsetup write a header in front of a part of a disk, and encrypts a
// file into the rest, with AES in XTS mode by sectors of 512 bytes or as args say.
func encrypt(t testing.TB, passphrase, file string, to extent, name string, args []string) {
	t.Helper()
	dir := t.TempDir()
	header, key := part(t, dir, "header", to.size), filepath.Join(dir, "key")
	secret := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuv"), 2)
	secret[0] = name[len(name)-1]
	if err := os.WriteFile(key, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	_, uuid, _ := strings.Cut(name, "/")
	all := slices.Concat([]string{"luksFormat", "--batch-mode", "--key-file=-", "--cipher=aes-xts-plain64", "--key-size=512", "--uuid=" + uuid, "--master-key-file=" + key}, args, []string{header})
	run(t, passphrase, "cryptsetup", all...)
	splice(t, header, to.disk, to.start)
	out, err := proc.Run(t.Context(), "cryptsetup", "luksDump", header)
	if err != nil {
		t.Fatal(err)
	}
	start, sector := int64(0), 512
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		fmt.Sscanf(line, "Payload offset: %d", &start) // sectors, of LUKS 1
		fmt.Sscanf(line, "sector: %d", &sector)
		if n, err := fmt.Sscanf(line, "offset: %d [bytes]", &start); n == 1 && err == nil {
			start /= 512
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := xts.NewCipher(aes.NewCipher, secret)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += sector {
		c.Encrypt(data[at:at+sector], data[at:at+sector], uint64(at/512))
	}
	writeAt(t, to.disk, to.start+start*512, data)
}

// Unlocked holds an engine to what it opens of the disks of Locked with Keys.
func Unlocked(t *testing.T, g guest.Guest) {
	held := map[string]string{}
	for _, f := range g.Topology().Filesystems {
		held[f.Device] = f.Type
	}
	for device, want := range map[string]string{
		"disk0p1": guest.LUKSContainer, "disk0p2": guest.LUKSContainer, "plain-vg/box": guest.LUKSContainer, "disk0p4": guest.LUKSContainer, "md/root": guest.LUKSContainer,
		lockedGroup: guest.LVMMember, "crypt-vg/root": "ext4", lockedData: "ext4", lockedVolume: "ext4", lockedArray: "ext4", lockedOther: "",
	} {
		if held[device] != want {
			t.Errorf("on %s is %q, want %q", device, held[device], want)
		}
	}
	for _, v := range g.Topology().Volumes {
		if want := v.Name == lockedOther; v.Crypt != nil && (v.Problem != "" || v.Unsupported != "") != want {
			t.Errorf("%s: %q, %q", v.Name, v.Problem, v.Unsupported)
		}
	}
	for device, want := range map[string]string{"crypt-vg/root": "root", lockedData: "data", lockedVolume: "volume", lockedArray: "array-inside"} {
		must(t, g.Mount(device, "/"))
		wantData(t, g, "/name", want+"\n")
		write(t, g, "/last", "written to "+device)
		must(t, g.UnmountAll())
		if h, err := g.Check(t.Context(), device); err != nil || h.State != guest.Clean {
			t.Errorf("Check of %s = %+v, %v", device, h, err)
		}
	}
}

// UnlockedBefore reads what Unlocked wrote, after the guest was closed.
func UnlockedBefore(t *testing.T, g guest.Guest) {
	for _, device := range []string{"crypt-vg/root", lockedData, lockedVolume, lockedArray} {
		must(t, g.Mount(device, "/"))
		wantData(t, g, "/last", "written to "+device)
		must(t, g.UnmountAll())
	}
}
