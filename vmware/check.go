package vmware

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// OK is a finding that stands against nothing.
const OK Level = "ok"

// Finding is one thing that a migration stands on: OK, Warning or Blocker.
type Finding struct {
	Code  string `json:"code"` // stable: vsphere/clock
	Level Level  `json:"level"`
	Text  string `json:"text"` // what was seen
	Try   string `json:"try,omitempty"`
}

// Asked is what a check is about.
type Asked struct {
	VMs []VM // that are to be migrated; Ref and Name are enough. None: only the server
	// Purposes are what will be done. What they lack blocks; of the ways to read disks
	// among them one is enough. None: all are looked at, and block nothing but the
	// inventory.
	Purposes []Purpose
	// Outside is what others found, such as whether VMware's library is there. It is
	// added in the end.
	Outside []Finding
}

// Refused is the finding that Connect's error is.
func Refused(err error) Finding {
	code := "vsphere/connect"
	if errors.Is(err, ErrLogin) || errors.Is(err, ErrPrivilege) {
		code = "vsphere/login"
	}
	return Finding{Code: code, Level: Blocker, Text: err.Error()}
}

// Check looks at all that migrations from this server stand on, and changes nothing.
// What cannot be looked at is a finding too; an error is only a context that has ended.
func (s *Session) Check(ctx context.Context, a Asked) ([]Finding, error) {
	found := s.version()
	found = append(found, s.clock(ctx)...)
	found = append(found, s.licence(ctx)...)
	own, seen := s.ownVM(ctx, a.Purposes)
	found = append(found, seen)
	site, gone := s.surroundings(ctx, a.VMs, own)
	found = append(found, gone...)
	found = append(found, s.reach(ctx, site.hosts)...)
	found = append(found, s.privileges(ctx, site, a.Purposes)...)
	return append(found, a.Outside...), context.Cause(ctx)
}

// leastAPI is the oldest version that is tried.
var leastAPI = [2]int{6, 5}

// version says which server it is.
func (s *Session) version() []Finding {
	about := s.client.ServiceContent.About
	f := Finding{Code: "vsphere/server", Level: OK,
		Text: fmt.Sprintf("%s is %s (%s, API %s), and is the one that was meant", s.peer.host(), about.FullName, about.ApiType, about.ApiVersion)}
	var major, minor int
	if n, _ := fmt.Sscanf(about.ApiVersion, "%d.%d", &major, &minor); n < 2 || major < leastAPI[0] || major == leastAPI[0] && minor < leastAPI[1] {
		f.Level, f.Try = Warning, "nothing before vSphere 6.5 is tried: rehearse first, or read the disks' files"
	}
	return []Finding{f}
}

// clockMax is how much clocks may differ before log-ins by certificates, and logs that
// are read side by side, suffer.
const clockMax = time.Minute

func (s *Session) clock(ctx context.Context) []Finding {
	before := time.Now()
	there, err := methods.GetCurrentTime(ctx, s)
	if err != nil {
		return []Finding{unseen("vsphere/clock", "the server's clock", err)}
	}
	trip := time.Since(before)
	ahead := there.Sub(before.Add(trip / 2))
	f := Finding{Code: "vsphere/clock", Level: OK, Text: fmt.Sprintf("the server's clock and this one differ by %s", ahead.Abs().Round(time.Second))}
	if ahead.Abs() > clockMax+trip {
		which := "ahead of"
		if ahead < 0 {
			which = "behind"
		}
		f.Level = Warning
		f.Text = fmt.Sprintf("the server's clock is %s %s this one", ahead.Abs().Round(time.Second), which)
		f.Try = "set both by NTP: certificates hold for a time, and logs are read side by side"
	}
	return []Finding{f}
}

// free is the edition of ESXi whose API changes nothing.
//
// Source: lamw/vghetto-scripts, which ask for it before they change anything.
const free = "esxBasic"

// licence looks at that of an ESXi host; those of a vCenter's hosts allow the API.
func (s *Session) licence(ctx context.Context) []Finding {
	if s.VCenter() || s.client.ServiceContent.LicenseManager == nil {
		return nil
	}
	var manager mo.LicenseManager
	if err := s.look(ctx, *s.client.ServiceContent.LicenseManager, &manager, "licenses"); err != nil {
		return []Finding{unseen("vsphere/licence", "the host's licence", err)}
	}
	found := []Finding{}
	for _, l := range manager.Licenses {
		found = append(found, licence(l, time.Now()))
	}
	return found
}

func licence(l types.LicenseManagerLicenseInfo, now time.Time) Finding {
	f := Finding{Code: "vsphere/licence", Level: OK, Text: fmt.Sprintf("the host has the licence %q", l.Name)}
	for _, p := range l.Properties {
		if until, ok := p.Value.(time.Time); ok && p.Key == "expirationDate" && until.Before(now) {
			f.Level, f.Text = Blocker, fmt.Sprintf("the host's licence %q expired on %s", l.Name, until.Format(time.DateOnly))
			f.Try = "assign another licence"
		}
	}
	if l.EditionKey == free {
		f.Level = Warning
		f.Text = fmt.Sprintf("the host has the free licence %q, with which programs may look, but change nothing: no snapshots, no exports, no power", l.Name)
		f.Try = "shut the VMs down by hand and read their disks over SSH, or assign a licence (that of an evaluation is enough)"
	}
	return f
}

// unseen is what could not be looked at.
func unseen(code, what string, err error) Finding {
	return Finding{Code: code, Level: Warning, Text: fmt.Sprintf("%s cannot be seen: %v", what, err), Try: "give the user System.Read there: any role has it"}
}

// list is a number of names for people.
func list(names []string) string {
	const most = 5
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
