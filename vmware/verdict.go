package vmware

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// readers are the purposes of which one is enough.
var readers = []Purpose{ForHTTPS, ForNFC, ForVDDK, ForHotadd}

// verdict is a finding for each purpose. Hotadd needs an own VM, and a vCenter that clones.
func (s *Session) verdict(lacks map[Purpose][]lack, purposes []Purpose, own bool) (found []Finding) {
	asked := purposes
	if len(asked) == 0 {
		asked = Purposes()
	}
	readable := slices.ContainsFunc(readers, func(p Purpose) bool {
		return slices.Contains(asked, p) && len(lacks[p]) == 0 && (p != ForHotadd || own && s.VCenter())
	})
	for _, p := range asked {
		f := Finding{Code: "vsphere/privileges-" + string(p), Level: OK, Text: fmt.Sprintf("the user has what %s needs", p)}
		if len(lacks[p]) > 0 {
			f.Level = Warning
			if len(purposes) > 0 && !(readable && slices.Contains(readers, p)) {
				f.Level = Blocker
			}
			f.Text = fmt.Sprintf("for %s the user %s lacks %s", p, s.config.User, missing(lacks[p]))
			f.Try = "give the user a role with these privileges there (docs/vsphere-calls.md has them all, and roles to import can be written)"
		}
		found = append(found, f)
	}
	return found
}

// missing says lacks for people, by privilege.
func missing(lacks []lack) string {
	on := map[string][]string{} // objects, by privilege
	for _, l := range lacks {
		if !slices.Contains(on[l.privilege], l.object) {
			on[l.privilege] = append(on[l.privilege], l.object)
		}
	}
	var parts []string
	for _, privilege := range slices.Sorted(maps.Keys(on)) {
		parts = append(parts, privilege+" on "+list(on[privilege]))
	}
	return strings.Join(parts, "; ")
}
