package inspect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/machine"
)

// seed gives a fuzzer every text file of the golden trees.
func seed(f *testing.F, more ...string) {
	f.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	networks, err := filepath.Glob("testdata/network/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, n := range append(names, networks...) {
		data, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		for part := range strings.SplitSeq(string(data), "\n-- ") {
			if _, content, ok := strings.Cut(part, "\n"); ok && len(content) < 8<<10 {
				f.Add([]byte(content))
			}
		}
	}
	for _, m := range more {
		f.Add([]byte(m))
	}
}

func FuzzParseFstab(f *testing.F) {
	seed(f, `a\040b /c\134 d`)
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Count(string(data), "\n") + 1
		last := 0
		for _, e := range ParseFstab(data) {
			if e.Line <= last || e.Line > lines {
				t.Fatalf("line %d after %d of %d", e.Line, last, lines)
			}
			if e.Spec == "" || e.Path == "" || e.Spec[0] == '#' && !strings.Contains(string(data), `\`) {
				t.Fatalf("entry %+v", e)
			}
			last = e.Line
			facts := Facts{Topology: disks(2)}
			if device, ok := facts.Resolve(e.Spec, machine.Machine{}); ok != (device != "") {
				t.Fatalf("Resolve(%q) = %q, %v", e.Spec, device, ok)
			}
		}
	})
}

func FuzzParseGrubCfg(f *testing.F) {
	seed(f, nestedMenu)
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Count(string(data), "\n") + 1
		menu := ParseGrubCfg(data)
		for _, e := range menu.Entries {
			if e.Linux == "" && e.Line == 0 || e.Line > lines || len(e.Path) == 0 {
				t.Fatalf("entry %+v", e)
			}
		}
		if i := pick(menu.Entries, menu.Default); i < 0 || len(menu.Entries) > 0 && i >= len(menu.Entries) {
			t.Fatalf("default %q is entry %d of %d", menu.Default, i, len(menu.Entries))
		}
	})
}

func FuzzParsersOfConfiguration(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range ParseInterfaces(data) {
			if i, ok := s.iface("/f"); ok {
				valid(t, i)
			}
		}
		valid(t, networkOf("/f", ParseUnit(data)))
		for _, l := range logicalLines(data) {
			if p, ok := pinOf(ParseUdevRule(l.text)); ok && p.Name == "" {
				t.Fatalf("pin %+v of no name", p)
			}
		}
		parseBLS(data)
		parseDpkg(string(data))
		parseAPK(string(data))
		imageVersion(data)
		elfArch(data)
		for _, r := range releases {
			r.read(&OS{}, splitLines(data))
		}
	})
}

func FuzzParsersOfNetworks(f *testing.F) {
	seed(f, "network: {ethernets: {a: &a {match: {driver: [x]}, addresses: [*a]}}}", "A='b\"$c'", "[ipv4]\naddress1=/,;")
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := strings.Count(string(data), "\n") + 1
		for _, v := range ParseSysconfig(data) {
			if v.Line > lines || v.Name == "" {
				t.Fatalf("variable %+v of %d lines", v, lines)
			}
		}
		defs, _, err := ParseNetplan(data)
		if err != nil && len(defs) > 0 {
			t.Fatalf("definitions and error %v", err)
		}
		for _, d := range defs {
			valid(t, d.iface())
		}
		if p, ok := profileOf("/f", ParseKeyfile(data)); ok {
			valid(t, p.Interface)
		}
		file := sysconfigOf(data)
		if i, ok := redHatInterface("/f", file, file); ok {
			valid(t, i)
		}
		valid(t, suseInterface("eth0", "/f", file))
		suseDefaults(splitLines(data))
	})
}

func valid(t *testing.T, i Interface) {
	t.Helper()
	if len(i.Addresses) > 2*maxAddresses {
		t.Fatalf("%d addresses", len(i.Addresses))
	}
	for _, a := range i.Addresses {
		if !a.IsValid() {
			t.Fatalf("interface %+v has an address that is none", i)
		}
	}
}
