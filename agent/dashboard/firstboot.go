package dashboard

import (
	"errors"
	"io/fs"

	"hyper2kvm/agent/firstboot"
)

// firstBoot is what was wrong with the settings that first boot has read. A machine that
// is no appliance has no first boot.
func firstBoot(root string) []string {
	r, err := firstboot.ReadReport(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{"what first boot did is not known: /" + firstboot.ReportPath + ": " + err.Error()}
	}
	return r.Problems
}
