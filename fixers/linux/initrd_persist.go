package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
)

// persistAll enters the drivers into the settings of the guest's generators.
func (p *initrdPlan) persistAll() error {
	if want := p.persist["initramfs-tools"]; want != nil {
		if err := p.persistModules(want); err != nil {
			return err
		}
	}
	if want := p.persist["dracut"]; want != nil {
		// The blanks inside the quotes are part of dracut.conf(5)'s syntax.
		text := fmt.Sprintf("# So that every new initrd starts on KVM too.\nadd_drivers+=\" %s \"\n", strings.Join(want, " "))
		return p.view.Write("/etc/dracut.conf.d/50-hyper2kvm.conf", []byte(text))
	}
	return nil
}

const initramfsModules = "/etc/initramfs-tools/modules"

// persistModules appends what is not in initramfs-tools' list of modules.
func (p *initrdPlan) persistModules(want []string) error {
	old, err := p.view.ReadFile(initramfsModules, guest.MaxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var have, lacking []string
	for _, line := range splitLines(old) {
		if parts := fields(line); len(parts) > 0 {
			have = append(have, parts[0].of(line))
		}
	}
	for _, name := range want {
		if !slices.Contains(have, name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	end := lineEnd(old)
	if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
		old = append(old, end...)
	}
	lacking = append([]string{"# So that every new initrd starts on KVM too."}, lacking...)
	return p.view.Write(initramfsModules, append(old, strings.Join(lacking, end)+end...))
}
