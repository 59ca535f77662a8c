package inspect

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// vmwarePackages are the packages that serve a guest on VMware alone.
var vmwarePackages = regexp.MustCompile(`(?i)^(open-vm-tools|vmware-tools|vmwaretools|kmod-vmware-tools|xserver-xorg-video-vmware|xorg-x11-drv-vmware|open-vm-dkms|libvmtools)`)

// vmwareFiles are files that only VMware's tools bring. A unit's name is the
// kind's, so that it can be switched off by it.
//
// Source: file lists of open-vm-tools in Debian, Fedora and SUSE; VMware
// Tools' own installer for the tarball.
var vmwareFiles = []struct{ kind, pattern string }{
	{"unit", "/lib/systemd/system/open-vm-tools.service"},
	{"unit", "/lib/systemd/system/vgauth.service"},
	{"unit", "/lib/systemd/system/vgauthd.service"},
	{"unit", "/lib/systemd/system/vmtoolsd.service"},
	{"unit", "/lib/systemd/system/vmware-tools.service"},
	{"unit", "/lib/systemd/system/run-vmblock\\x2dfuse.mount"},
	{"unit", "/usr/lib/systemd/system/open-vm-tools.service"},
	{"unit", "/usr/lib/systemd/system/vgauth.service"},
	{"unit", "/usr/lib/systemd/system/vgauthd.service"},
	{"unit", "/usr/lib/systemd/system/vmtoolsd.service"},
	{"unit", "/usr/lib/systemd/system/vmware-tools.service"},
	{"unit", "/usr/lib/systemd/system/run-vmblock\\x2dfuse.mount"},
	{"unit", "/etc/systemd/system/vmware-tools*.service"},
	{"unit", "/etc/init/vmware-tools*.conf"},
	{"unit", "/etc/init.d/vmware-tools*"},
	{"unit", "/etc/init.d/open-vm-tools"},
	{"unit", "/etc/init.d/vmtoolsd"},
	{"unit", "/etc/vmware-tools/services.sh"},
	{"udev-rule", "/etc/udev/rules.d/*vmware*.rules"},
	{"udev-rule", "/lib/udev/rules.d/*vmware*.rules"},
	{"udev-rule", "/usr/lib/udev/rules.d/*vmware*.rules"},
	{"udev-rule", "/usr/lib/udev/rules.d/*open-vm-tools*.rules"},
	{"udev-rule", "/lib/udev/rules.d/*open-vm-tools*.rules"},
	{"tarball", "/usr/bin/vmware-uninstall-tools.pl"},
	{"tarball", "/etc/vmware-tools/locations"},
	{"config", "/etc/vmware-tools"},
}

// vmwareSettings are configurations in which a line names a driver of VMware's.
var vmwareSettings = []struct{ kind, pattern string }{
	{"module-option", "/etc/modprobe.d/*.conf"},
	{"module-option", "/etc/modules"},
	{"module-option", "/etc/modules-load.d/*.conf"},
	{"module-option", "/etc/modprobe.conf"},
	{"initrd-list", "/etc/initramfs-tools/modules"},
	{"initrd-list", "/etc/initramfs-tools/conf.d/*"},
	{"initrd-list", "/etc/dracut.conf"},
	{"initrd-list", "/etc/dracut.conf.d/*.conf"},
	{"initrd-list", "/etc/mkinitcpio.conf"},
	{"initrd-list", "/etc/mkinitfs/mkinitfs.conf"},
	{"initrd-list", "/etc/mkinitfs/features.d/*.modules"},
	{"initrd-list", "/etc/sysconfig/kernel"},
	{"x11", "/etc/X11/xorg.conf"},
	{"x11", "/etc/X11/xorg.conf.d/*.conf"},
}

// vmwareDriver matches the drivers of VMware's devices.
var vmwareDriver = regexp.MustCompile(`\b(vmw_\w+|vmw[a-z]*gfx|vmxnet3?|vmhgfs|vmblock|vmci|vsock_vmci\w*|vmmemctl|vmwgfx|pvscsi|vmware)\b`)

// vmware lists what VMware left in the guest. RPM's database is not read:
// where there is one, units and files tell of the package.
func (t *files) vmware(all packages) []Leftover {
	var found []Leftover
	for _, p := range all {
		if vmwarePackages.MatchString(p.name) {
			found = append(found, Leftover{"package", p.name, p.source})
		}
	}
	var seen []string
	for _, f := range vmwareFiles {
		for _, name := range t.glob(f.pattern) {
			if at := t.resolve(name); !slices.Contains(seen, at) { // /lib may be /usr/lib
				seen = append(seen, at)
				found = append(found, Leftover{f.kind, path.Base(name), at})
			}
		}
	}
	for _, s := range vmwareSettings {
		for _, name := range t.glob(s.pattern) {
			found = append(found, t.vmwareLines(s.kind, name)...)
		}
	}
	if db := t.rpm(); db != "" {
		found = append(found, t.vmwareProgram(db)...)
	}
	return found
}

// vmwareProgram tells of open-vm-tools by its daemon, in a guest whose package
// list cannot be read.
func (t *files) vmwareProgram(db string) []Leftover {
	const daemon = "/usr/bin/vmtoolsd"
	if !t.exists(daemon) {
		return nil
	}
	return []Leftover{{"package", "open-vm-tools", daemon + ", the package list " + db + " is not read"}}
}

// vmwareLines are the lines of a file that name one of VMware's drivers.
func (t *files) vmwareLines(kind, name string) []Leftover {
	var found []Leftover
	for i, line := range t.lines(name) {
		if len(found) >= maxFiles {
			t.problem(name, "more lines than expected, the rest is not read")
			break
		}
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, d := range vmwareDriver.FindAllString(line, 8) {
			found = append(found, Leftover{kind, d, fmt.Sprintf("%s:%d", name, i+1)})
		}
	}
	return found
}

// agentSigns are the guest agents by package or program.
var agentSigns = []struct {
	name  string
	files []string
}{
	{"qemu-guest-agent", []string{"/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"}},
	{"spice-vdagent", []string{"/usr/bin/spice-vdagent", "/usr/sbin/spice-vdagentd"}},
	{"cloud-init", []string{"/usr/bin/cloud-init"}},
}

// agents are the guest agents of KVM that are installed.
func (t *files) agents(all packages) []Found {
	var found []Found
	for _, a := range agentSigns {
		for _, p := range all {
			if p.name == a.name {
				found = append(found, Found{a.name, p.source})
			}
		}
		at := t.first(a.files...)
		if at != "" && !slices.ContainsFunc(found, func(f Found) bool { return f.Value == a.name }) {
			found = append(found, Found{a.name, at})
		}
	}
	return found
}
