package firstboot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/ovf"
)

// vsphere is an OVF environment as govc makes it, in vSphere's form, with its values
// escaped as vSphere does.
func vsphere(values map[string]string) string {
	e := ovf.Env{EsxID: "vm-42", Platform: &ovf.PlatformSection{Kind: "VMware ESXi", Version: "8.0.3", Vendor: "VMware, Inc.", Locale: "en"}, Property: &ovf.PropertySection{}}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\n", "&#10;")
	for _, k := range sorted(values) {
		e.Property.Properties = append(e.Property.Properties, ovf.EnvProperty{Key: k, Value: escape.Replace(values[k])})
	}
	return e.MarshalManual()
}

func TestTheOVFEnvironmentIsRead(t *testing.T) {
	certificate, _ := pair(t, "a<&>\"b")
	s := vmware(t, map[string]string{"hostname": "m1", "gateway": "", "trust": certificate, "dns": "192.0.2.1 192.0.2.2", "ssh-key": "base64:c3NoLWVkMjU1MTkg\nQUFBQQ=="})
	if s.said["hostname"] != "m1" || s.said["trust"] != strings.TrimSpace(certificate) || s.said["ssh-key"] != "ssh-ed25519 AAAA" || len(s.said) != 4 || len(s.problems) > 0 {
		t.Errorf("it says %q, %q", s.said, s.problems)
	}
}

// Another machine of the vApp has an Entity of its own; what has other name spaces, or is
// elsewhere, is no property.
func TestOnlyThisMachinesPropertiesAreRead(t *testing.T) {
	s := readOVF([]byte(`<?xml version="1.0" encoding="UTF-8"?>
<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" xmlns:x="urn:x" oe:id="vm1">
  <!-- a comment -->
  <PropertySection><Property oe:key="hostname" oe:value="mine"/><x:Property oe:key="ntp" oe:value="x"/><Property key="dns" value="x"/></PropertySection>
  <Entity oe:id="vm2"><PropertySection><Property oe:key="hostname" oe:value="another"/></PropertySection></Entity>
  <ve:EthernetAdapterSection xmlns:ve="http://www.vmware.com/schema/ovfenv"><ve:Adapter ve:mac="00:50:56:01:02:03"/></ve:EthernetAdapterSection>
</Environment>`))
	if len(s.said) != 1 || s.said["hostname"] != "mine" {
		t.Errorf("it says %q, %q", s.said, s.problems)
	}
	one(t, s.problems, `"": there is no such key`)
}

func TestAHostileOVFEnvironment(t *testing.T) {
	open := `<Environment xmlns="` + environment + `" xmlns:oe="` + environment + `"><PropertySection>`
	for name, c := range map[string]struct{ text, want string }{
		"entities":    {`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + open + `<Property oe:key="hostname" oe:value="&b;"/>`, "has a document type"},
		"undeclared":  {open + `<Property oe:key="hostname" oe:value="&b;"/>`, "is no XML in line 1"},
		"large":       {open + strings.Repeat(" ", 100<<20), "has more than 1048576 bytes"},
		"deep":        {strings.Repeat("<a>", 100_000), "is nested deeper than 16"},
		"unescaped":   {open + `<Property oe:key="hostname" oe:value="a<b"/>`, "a value may hold one of < &"},
		"cut short":   {open, "is no XML"},
		"unbalanced":  {"</a>", "is no XML"},
		"twice":       {open + `<Property oe:key="hostname" oe:value="a"/><Property oe:key="hostname" oe:value="b"/></PropertySection></Environment>`, "hostname: is there twice: say it once"},
		"unknown":     {open + `<Property oe:key="a.hostname.b" oe:value="a"/></PropertySection></Environment>`, "a.hostname.b: there is no such key"},
		"not base64":  {open + `<Property oe:key="hostname" oe:value="base64:?"/></PropertySection></Environment>`, "is no base64"},
		"long":        {open + `<Property oe:key="hostname" oe:value="` + strings.Repeat("a", 300) + `"/></PropertySection></Environment>`, "has 300 bytes: write 253 at most"},
		"other bytes": {"\xff\xfe<\x00", "is no XML"},
	} {
		began := time.Now()
		s := readOVF([]byte(c.text))
		if len(s.problems) != 1 || !strings.HasPrefix(s.problems[0], fromOVF+": ") || !strings.Contains(s.problems[0], c.want) {
			t.Errorf("%s: %.300q, want %s", name, s.problems, c.want)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// A program in the place of VMware's, whose answers are as its source prints them.
const tools = `#!/bin/sh
[ "$#" = 2 ] && [ "$1" = --cmd ] || exit 3
case $2 in
'info-get guestinfo.ovfEnv') cat "${0%/*}/env" ;;
'info-get guestinfo.hyper2kvm.hostname') echo tools1 ;;
'info-get guestinfo.hyper2kvm.ntp') exit 1 ;;
*) echo 'No value found' >&2; exit 1 ;;
esac
`

func TestVMwaresToolsAreAsked(t *testing.T) {
	m := newMachine(t)
	m.put("bin/vmtoolsd", tools)
	m.put("bin/env", vsphere(map[string]string{"hostname": "ovf1", "address": "192.0.2.10/24"})+"\n")
	if err := os.Chmod(filepath.Join(m.root, "bin/vmtoolsd"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(m.root, "bin")+":"+os.Getenv("PATH"))
	if VMware(m.root) != nil {
		t.Error("a machine without DMI is VMware's")
	}
	m.put("sys/class/dmi/id/sys_vendor", "QEMU\n")
	if VMware(m.root) != nil {
		t.Error("QEMU's machine is VMware's")
	}
	m.put("sys/class/dmi/id/sys_vendor", "VMware, Inc.\n")
	r := m.boot(VMware(m.root))
	one(t, r.Problems, "VMware's guestinfo: ntp: VMware's tools do not answer: vmtoolsd: exit status 1")
	if m.etc()[hostnamePath] != "tools1\n" || !strings.HasPrefix(r.Network, "192.0.2.10/24") {
		t.Errorf("%+v", r)
	}
	m.put("bin/vmtoolsd", "#!/bin/sh\necho 'Cannot open /dev/x' >&2; exit 1")
	one(t, m.boot(VMware(m.root)).Problems, fmt.Sprintf("%s: VMware's tools do not answer: vmtoolsd: exit status 1: Cannot open /dev/x", fromOVF))
}

func TestTheKernelCommandLineIsRead(t *testing.T) {
	s := readKernel(`BOOT_IMAGE=/vmlinuz quiet hyper2kvm.hostname=m1  "hyper2kvm.search=a.org b.org" hyper2kvm.ntp= hyper2kvm.settings="{log: {level: debug}}" hyper2kvm.key=x hyper2kvm.factory-reset` + "\n")
	if s.said["hostname"] != "m1" || s.said["search"] != "a.org b.org" || s.said["settings"] != "{log: {level: debug}}" || len(s.said) != 3 {
		t.Errorf("it says %q", s.said)
	}
	one(t, s.problems, "key: everybody on the appliance can read it there")
}
