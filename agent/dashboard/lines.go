package dashboard

import (
	"slices"
	"strings"
)

// lineWidth is that of lines where the terminal's is not known.
const lineWidth = 79

// lines is a status as text, for where nothing can be drawn.
func lines(s Status, secret bool) string {
	var b strings.Builder
	s = coarse(s)
	b.WriteString(title(s) + "\n")
	for _, l := range body(s, lineWidth, secret) {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

// title names the appliance.
func title(s Status) string {
	return join("   ", plain(s.Name), "hyper2kvm "+plain(s.Version))
}

// coarse is a status without what changes all the time: a line that was printed stays.
func coarse(s Status) Status {
	s.Jobs.Running = slices.Clone(s.Jobs.Running)
	for i := range s.Jobs.Running {
		j := &s.Jobs.Running[i]
		j.Done -= j.Done % max(j.Total/10, 1)
	}
	s.Disk.Free -= s.Disk.Free % max(s.Disk.Size/20, 1)
	return s
}
