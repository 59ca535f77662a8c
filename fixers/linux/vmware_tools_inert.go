package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
)

// vmwareToolsInert keeps VMware's tools from starting: their units are masked,
// their SysV links become "do not start" links, Upstart is told to start its jobs
// by hand alone, their udev rules are overridden
// by nothing, and X no longer asks for VMware's graphics. No package is removed:
// its own scripts must do that, in the running guest.
//
// Source: systemd.unit(5), masking; init(5) of Upstart, override files; udev(7), "symlink to /dev/null";
// open-vm-tools' units and rules; VMware's vmware-config-tools.pl.
var vmwareToolsInert = fixer.Fixer{
	Name:    "linux/vmware-tools-inert",
	Why:     "VMware's tools find no VMware on KVM: they fail, or delay the boot",
	Applies: onLinux,
	Plan: func(_ context.Context, g *guest.View, _ fixer.Input) ([]fixer.Concern, error) {
		for _, step := range []func(*guest.View) error{maskUnits, stopSysV, stopUpstart, overrideRules, plainGraphics} {
			if err := step(g); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
}

// toolsUnits are the units of open-vm-tools under its distributions' names, and
// those of VMware's own installer. A backslash in a unit's name is in the name.
var toolsUnits = []string{
	"open-vm-tools.service", "vgauth.service", "vgauthd.service", "vmtoolsd.service",
	"vmware-tools.service", "vmware-tools-thinprint.service", `run-vmblock\x2dfuse.mount`,
}

const (
	ownUnits = "/etc/systemd/system"
	ownRules = "/etc/udev/rules.d"
	nothing  = "/dev/null"
)

func maskUnits(g *guest.View) error {
	return maskAll(g, toolsUnits, ownUnits, "/usr/lib/systemd/system", "/lib/systemd/system")
}

// maskAll puts a link to nothing into the folder own for each name that is in
// it or in another folder of the search path.
func maskAll(g *guest.View, names []string, own string, others ...string) error {
	for _, name := range names {
		found, err := inAny(g, name, append([]string{own}, others...))
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if err := g.Link(nothing, path.Join(own, name)); err != nil {
			return err
		}
	}
	return nil
}

func inAny(g *guest.View, name string, dirs []string) (bool, error) {
	for _, dir := range dirs {
		_, err := g.Lstat(path.Join(dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

var startLink = regexp.MustCompile(`^S(\d\d)(open-vm-tools|vmtoolsd|vgauthd?|vmware-tools|vmware-tools-thinprint)$`)

// runLevels are the folders of SysV's links on Debian and on Red Hat and SUSE.
var runLevels = []string{"/etc", "/etc/rc.d", "/etc/init.d"}

// stopSysV turns start links into stop links, as update-rc.d and chkconfig do.
func stopSysV(g *guest.View) error {
	done := map[string]bool{}
	for _, parent := range runLevels {
		for level := range 7 {
			dir, err := g.Resolve(fmt.Sprintf("%s/rc%d.d", parent, level))
			if err != nil {
				return err
			}
			if done[dir] {
				continue
			}
			done[dir] = true
			if err := stopLinks(g, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func stopLinks(g *guest.View, dir string) error {
	links, err := listed(g, dir, "")
	if err != nil {
		return err
	}
	for _, link := range links {
		m := startLink.FindStringSubmatch(path.Base(link))
		if m == nil {
			continue
		}
		info, err := g.Lstat(link)
		if err != nil {
			return err
		}
		if info.Mode&fs.ModeSymlink == 0 {
			continue
		}
		target, err := g.Readlink(link)
		if err != nil {
			return err
		}
		order, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		if err := g.Remove(link); err != nil {
			return err
		}
		if err := g.Link(target, fmt.Sprintf("%s/K%02d%s", dir, min(99, 100-order), m[2])); err != nil {
			return err
		}
	}
	return nil
}

var toolsJob = regexp.MustCompile(`^(vmware-tools(-thinprint)?|open-vm-tools)\.conf$`)

// stopUpstart gives each of the tools' jobs an override file, in which the last
// word is that it starts by hand.
func stopUpstart(g *guest.View) error {
	jobs, err := listed(g, "/etc/init", ".conf")
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if !toolsJob.MatchString(path.Base(job)) {
			continue
		}
		override := strings.TrimSuffix(job, ".conf") + ".override"
		old, err := g.ReadFile(override, guest.MaxText)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if slices.Contains(splitLines(old), "manual\n") {
			continue
		}
		if err := g.Write(override, appendLines(old, "manual")); err != nil {
			return err
		}
	}
	return nil
}

var toolsRule = regexp.MustCompile(`^99-vmware.*\.rules$`)

func overrideRules(g *guest.View) error {
	others := []string{"/usr/lib/udev/rules.d", "/lib/udev/rules.d"}
	var names []string
	for _, dir := range append([]string{ownRules}, others...) {
		files, err := listed(g, dir, ".rules")
		if err != nil {
			return err
		}
		for _, file := range files {
			if name := path.Base(file); toolsRule.MatchString(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return maskAll(g, names, ownRules, others...)
}

var vmwareGraphics = regexp.MustCompile(`(?mi)^([ \t]*Driver[ \t]+")vmware(")`)

// plainGraphics makes X use the kernel's graphics instead of VMware's. X older
// than 1.17 may be without that driver; VESA's works everywhere.
func plainGraphics(g *guest.View) error {
	files, err := listed(g, "/etc/X11/xorg.conf.d", ".conf")
	if err != nil {
		return err
	}
	driver := "vesa"
	found, err := inAny(g, "modesetting_drv.so", []string{
		"/usr/lib/xorg/modules/drivers", "/usr/lib64/xorg/modules/drivers", "/usr/lib/xorg-modules/drivers"})
	if err != nil {
		return err
	}
	if found {
		driver = "modesetting"
	}
	for _, file := range append(files, "/etc/X11/xorg.conf", "/etc/X11/XF86Config") {
		err := g.Edit(file, func(old []byte) ([]byte, error) {
			return vmwareGraphics.ReplaceAll(bytes.Clone(old), []byte("${1}"+driver+"${2}")), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
