package update

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// byUEFI is the version that systemd-boot starts, which counts that: the latest of those
// that have tries left, or are on no trial.
//
// Source: systemd v257, src/boot/boot.c, boot_entry_compare and boot_entry_bump_counters.
func (b *bench) byUEFI() (version string, err error) {
	list, err := b.esp.images()
	if err != nil || len(list) == 0 {
		return "", errors.Join(errors.New("there is no image"), err)
	}
	slices.SortStableFunc(list, func(x, y image) int {
		return map[bool]int{true: 1}[x.counted && x.left == 0] - map[bool]int{true: 1}[y.counted && y.left == 0]
	})
	i := list[0]
	k, err := openKernel(b.esp.path(i.name()))
	if err != nil {
		return "", err
	}
	defer k.close()
	e := k.entries[0]
	if i.counted { // the first of the further ones, for 257 leaves the counter in their IDs alone
		if e = k.entries[1]; !strings.Contains(e.commandLine, "hyper2kvm.trial") {
			return "", fmt.Errorf("%s is started on trial by %+v", i.version, e)
		}
	}
	if i.counted && i.left > 0 {
		next := image{i.version, true, i.left - 1, i.done + 1}
		if err := b.esp.move(i.name(), next.name()); err != nil {
			return "", err
		}
	}
	return i.version, b.starts(i.version, e.commandLine)
}

// byGRUB is the version that GRUB starts by the menu, which counts that.
func (b *bench) byGRUB() (version string, err error) {
	text, err := os.ReadFile(b.esp.path(menuAt))
	if err != nil {
		return "", err
	}
	env, err := b.esp.block()
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^set default='(.*)'$(?:\nif \[ "\$trial" != '(.*)' -o "\$tries" = 0 \]; then\n\tset default='(.*)'\nfi)?`).FindStringSubmatch(string(text))
	if m == nil {
		return "", fmt.Errorf("the menu is\n%s", text)
	}
	id := m[1]
	if m[2] != "" && (env.trial != m[2] || env.tries == 0) {
		id = m[3]
	}
	if digit(id[0]) {
		return "", fmt.Errorf("GRUB takes the entry %q for a number", id)
	}
	version = strings.TrimPrefix(id, "hyper2kvm-")
	entry := regexp.MustCompile(`(?s)--id '` + regexp.QuoteMeta(id) + `' \{.*?linux '(.*?)' (.*?) \$word\n.*?initrd '(.*?)'`).FindStringSubmatch(string(text))
	if entry == nil {
		return "", fmt.Errorf("the menu has no entry %s:\n%s", version, text)
	}
	for file, want := range map[string]string{entry[1]: "kernel of " + version, entry[3]: "initrd of " + version} {
		if got, err := os.ReadFile(b.esp.path(file)); err != nil || string(got) != want {
			return "", fmt.Errorf("%s is %q: %w", file, got, err)
		}
	}
	if env.trial == version && env.tries > 0 {
		env.tries--
		if err := b.esp.change(blockAt, env.bytes()); err != nil {
			return "", err
		}
	}
	return version, b.starts(version, entry[2])
}

// starts tells whether the root that a command line names is there, whole.
func (b *bench) starts(version, commandLine string) error {
	_, hash, _ := strings.Cut(commandLine, "roothash=")
	hash, _, _ = strings.Cut(hash, " ")
	table, err := readTable(b.t.Context(), filepath.Join(b.dir, "dev/vda"))
	if err != nil {
		return err
	}
	root, verity := contents(version)
	rootID, verityID := Halves(hash)
	found := 0
	for _, p := range table {
		want, named := map[string][]byte{rootID: root, verityID: verity}[strings.ToLower(p.UUID)]
		if !named || hash != rootHash(version) {
			continue
		}
		if got, err := os.ReadFile(p.Node); err != nil || !bytes.HasPrefix(got, want) {
			return fmt.Errorf("%s does not have what %s needs: %w", p.Node, version, err)
		}
		found++
	}
	if found != 2 {
		return fmt.Errorf("%s leads to %d partitions", version, found)
	}
	return nil
}

// runs has the machine run a version from the slot that it was put into.
func (b *bench) runs(version string) {
	b.put("os-release", []byte("IMAGE_VERSION="+version+"\n"))
	must(b.t, os.RemoveAll(filepath.Join(b.dir, "sys")))
	slot := map[string][]string{oldVersion: {"3", "4"}, newVersion: {"5", "6"}}[version]
	b.sysfs(slot...)
	if b.real {
		b.put("sys/firmware/efi/x", nil)
	}
}
