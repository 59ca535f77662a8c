package firstboot

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// layouts are the names of keyboard layouts for PCs in Debian's console-data, which the
// appliance has: those that its loadkeys can load, which ar, fa, ro-comma and
// dvorak-fr-bepo-utf8 are not.
//
//go:embed keymaps.txt
var layouts string

// usualLayout is what Linux's consoles have if nobody says one.
const usualLayout = "us"

func takeKeymap(s *Settings, text string) error {
	all := strings.Fields(layouts)
	if !slices.Contains(all, text) {
		return fmt.Errorf("%s is no keyboard layout: write one such as %s", quoted(text), strings.Join(alike(all, text), ", "))
	}
	s.Keymap = text
	return nil
}

// mostAlike is how many layouts are named to whoever has named none.
const mostAlike = 6

// alike are layouts whose names have somebody's text in them, or those that most people use.
func alike(all []string, text string) (found []string) {
	for _, name := range all {
		if strings.Contains(strings.ToLower(name), strings.ToLower(text)) && len(found) < mostAlike {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return []string{"de", "es", "fr", "it", "uk", usualLayout}
	}
	return found
}

func keymapFile(s *Settings) string { return written + "KEYMAP=" + s.Keymap + "\n" }

// keyboard gives the consoles of the running system their layout: Debian's systemd does not
// read the file, and a kernel begins with the usual one.
func (b Boot) keyboard(ctx context.Context, s *Settings, changed []string) error {
	if filepath.Clean(b.Root) != "/" || s.Keymap == "" && !slices.Contains(changed, "/"+keymapPath) {
		return nil
	}
	_, err := proc.Run(ctx, "loadkeys", "--quiet", cmp.Or(s.Keymap, usualLayout))
	return err
}
