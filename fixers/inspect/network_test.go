package inspect

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/machine"
)

// TestNetworksOfDistributionsAreGolden reads the network of trees that hold what
// configures it alone; what is found stands beside each.
func TestNetworksOfDistributionsAreGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/network/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no trees: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, err := tree.Parse(a, "root")
			if err != nil {
				t.Fatal(err)
			}
			n, problems := ReadNetwork(files)
			text, err := json.MarshalIndent(struct {
				Network
				Problems []Found `json:"problems,omitempty"`
			}{n, problems}, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, '\n')
			golden := strings.TrimSuffix(name, ".txtar") + ".json"
			if *update {
				if err := os.WriteFile(golden, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestShellAssignmentsLoseTheirQuotesOnly(t *testing.T) {
	for text, want := range map[string]string{
		`A=b`:                      "b",
		`A="b c" # comment`:        "b c",
		`A='$b'`:                   "$b",
		`A="b"'c'\ d`:              "bc d",
		`A="\"q\" \n"`:             `"q" \n`,
		`A= # nothing`:             "",
		`export A=b;`:              "b",
		" \tA=b\r":                 "b",
		`A="$b"`:                   "(none)",
		`A=$(b)`:                   "(none)",
		"A=`b`":                    "(none)",
		`A="goes on`:               "(none)",
		`A=b\`:                     "(none)",
		`# A=b`:                    "(none)",
		`1A=b`:                     "(none)",
		`A.b=c`:                    "(none)",
		"A='b'\nA=c":               "c",
		`A=b&&rm`:                  "(none)",
		`A=192.0.2.1/24,192.0.2.9`: "192.0.2.1/24,192.0.2.9",
	} {
		got := "(none)"
		for _, v := range ParseSysconfig([]byte(text)) {
			got = v.Value
		}
		if got != want {
			t.Errorf("ParseSysconfig(%q) = %q, want %q", text, got, want)
		}
	}
}

// configured is what the files of a tree configure, one interface a line.
func configured(t *testing.T, archive string) []string {
	t.Helper()
	n, _ := ReadNetwork(grown(t, archive))
	var all []string
	for _, i := range n.Interfaces {
		all = append(all, strings.Join(strings.Fields(fmt.Sprint(i.Name, " ", i.MAC, " ", i.Driver, " ", i.Path, " ", i.Kind, " ", i.Method, " ", i.Addresses, " ", i.Gateway, " ", i.Gateway6, " off=", i.Off)), " "))
	}
	return all
}

func TestProfilesOfNetworkManagerAreReadAsItReadsThem(t *testing.T) {
	const folder = "-- x/etc/NetworkManager/system-connections/a mode=0600 --\n"
	for _, c := range []struct{ what, text, want string }{
		{"old forms", "[connection]\ntype=802-3-ethernet\n[802-3-ethernet]\nmac-address=0;80;86;170;0;1;\n[ipv4]\nmethod=manual\naddresses1=192.0.2.5;24;192.0.2.1;\n",
			"00:50:56:aa:00:01 static [192.0.2.5/24] 192.0.2.1 invalid IP off=false"},
		{"no length", "[connection]\ntype=ethernet\ninterface-name=ens192\n[ipv4]\nmethod=manual\naddress1=192.0.2.5\n[ipv6]\nmethod=manual\naddress1=2001:db8::5\n",
			"ens192 static [192.0.2.5/24 2001:db8::5/64] invalid IP invalid IP off=false"},
		{"leased and static", "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\naddress1=192.0.2.5/24\ngateway=192.0.2.1\n", "dhcp [192.0.2.5/24] 192.0.2.1 invalid IP off=false"},
		{"addresses in the order of their numbers", "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress10=192.0.2.10/24,192.0.2.2\naddress2=192.0.2.2/24,192.0.2.1\n", "static [192.0.2.2/24 192.0.2.10/24] 192.0.2.1 invalid IP off=false"},
		{"no way out", "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24,192.0.2.1\nnever-default=true\n", "static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"another table", "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24,192.0.2.1\nroute-table=100\n", "static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"a route to everywhere", "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24\nroute1=10.0.0.0/8,192.0.2.9\nroute2=0.0.0.0/0,192.0.2.1,50\n", "static [192.0.2.5/24] 192.0.2.1 invalid IP off=false"},
		{"IPv6 alone", "[connection]\ntype=ethernet\n[ipv4]\nmethod=disabled\naddress1=192.0.2.5/24\n[ipv6]\nmethod=auto\n", "auto [] invalid IP invalid IP off=false"},
		{"matched by place and driver", "[connection]\ntype=ethernet\n[match]\npath=pci-0000:0b:00.0;\ndriver=|vmxnet3;e1000*;\ninterface-name=!eth0;!eth1;\n", "!eth0 eth1 vmxnet3 e1000* pci-0000:0b:00.0 manual [] invalid IP invalid IP off=false"},
		{"what cannot be told", "[connection]\ntype=ethernet\n[match]\ninterface-name=en*;!ens192;\n", "!* manual [] invalid IP invalid IP off=false"},
		{"by hand", "[connection]\ntype=ethernet\nautoconnect=no\n", "manual [] invalid IP invalid IP off=true"},
		{"no network card", "[connection]\ntype=wifi\n", ""},
		{"text that goes on", "[connection]\ntype=ethernet\nid=a\\\ninterface-name=ens192\n; no comment\n", "ens192 manual [] invalid IP invalid IP off=false"},
	} {
		if got := strings.Join(configured(t, folder+c.text), "; "); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestRedHatsFilesAreReadAsTheirReaderDoes(t *testing.T) {
	const byNM = "-- x/usr/lib64/NetworkManager/1.40/libnm-settings-plugin-ifcfg-rh.so --\n-- x/etc/systemd/system/multi-user.target.wants/NetworkManager.service -> /x --\n"
	const folder = "-- x/etc/sysconfig/network-scripts/"
	for _, c := range []struct{ what, tree, want string }{
		{"a lease and an address", folder + "ifcfg-a --\nDEVICE=ens192\nBOOTPROTO=dhcp\nIPADDR=192.0.2.5\n", "ens192 dhcp [] invalid IP invalid IP off=false"},
		{"the same with NetworkManager", byNM + folder + "ifcfg-a --\nDEVICE=ens192\nBOOTPROTO=dhcp\nIPADDR=192.0.2.5\n", "ens192 dhcp [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"no device", folder + "ifcfg-ens192 --\nTYPE=Ethernet\nBOOTPROTO=dhcp\n", "ens192 dhcp [] invalid IP invalid IP off=false"},
		{"no device with NetworkManager", byNM + folder + "ifcfg-ens192 --\nTYPE=Ethernet\nBOOTPROTO=dhcp\n", "dhcp [] invalid IP invalid IP off=false"},
		{"not for NetworkManager", byNM + folder + "ifcfg-a --\nDEVICE=ens192\nNM_CONTROLLED=no\nBOOTPROTO=dhcp\n", "ens192 dhcp [] invalid IP invalid IP off=true"},
		{"classes", folder + "ifcfg-a --\nDEVICE=ens192\nIPADDR=10.1.2.3\nIPADDR2=172.16.0.1\nIPADDR3=192.0.2.1\nIPADDR5=192.0.2.5\n", "ens192 static [10.1.2.3/8 172.16.0.1/16 192.0.2.1/24] invalid IP invalid IP off=false"},
		{"a gateway for all, elsewhere", "-- x/etc/sysconfig/network --\nGATEWAY=198.51.100.1\n" + folder + "ifcfg-a --\nDEVICE=ens192\nIPADDR=192.0.2.5\nPREFIX=24\n", "ens192 static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"a gateway for another", "-- x/etc/sysconfig/network --\nGATEWAYDEV=ens224\n" + folder + "ifcfg-a --\nDEVICE=ens192\nIPADDR=192.0.2.5\nPREFIX=24\nGATEWAY=192.0.2.1\n", "ens192 static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"matched by place", byNM + folder + "ifcfg-a --\nTYPE=Ethernet\nMATCH_PATH=\"pci-0000:0b:00.0 pci-0000:13:00.0\"\nMATCH_DRIVER=vmxnet3\n", "vmxnet3 pci-0000:0b:00.0 pci-0000:13:00.0 manual [] invalid IP invalid IP off=false"},
		{"a tag in the name", folder + "ifcfg-a --\nDEVICE=ens192.7\nIPADDR=192.0.2.5\nPREFIX=24\n", "ens192.7 vlan static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"an alias nobody brings up", folder + "ifcfg-ens192 --\nDEVICE=ens192\nIPADDR=192.0.2.5\nPREFIX=24\n" + folder + "ifcfg-ens192:0 --\nONPARENT=no\nIPADDR=192.0.2.6\n", "ens192 static [192.0.2.5/24] invalid IP invalid IP off=false"},
		{"IPv6 not asked for", folder + "ifcfg-a --\nDEVICE=ens192\nIPV6ADDR=2001:db8::5\n", "ens192 manual [] invalid IP invalid IP off=false"},
		{"an IPv6 gateway for all", "-- x/etc/sysconfig/network --\nIPV6INIT=yes\nIPV6_DEFAULTGW=2001:db8::1%ens192\n" + folder + "ifcfg-a --\nDEVICE=ens192\nIPV6_AUTOCONF=no\nIPV6ADDR=2001:db8::5\n", "ens192 static [2001:db8::5/64] invalid IP 2001:db8::1 off=false"},
	} {
		if got := strings.Join(configured(t, c.tree), "; "); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

func TestNetplansFilesThatAreNoneAreProblems(t *testing.T) {
	bomb := "network:\n  ethernets:\n    a: &a {addresses: [" + strings.Repeat("192.0.2.1/24,", 5000) + "]}\n"
	for i := range 500 {
		bomb += fmt.Sprintf("    b%d: *a\n", i)
	}
	for what, text := range map[string]string{
		"no YAML":         "network: {ethernets: {a: [}",
		"an anchor's sum": bomb,
		"too large":       "#" + strings.Repeat("x", maxYAML),
		"an empty anchor": "network: *none",
	} {
		n, problems := ReadNetwork(grown(t, "-- x/etc/netplan/a.yaml --\n"+text+"\n"))
		if len(n.Interfaces) > 0 || len(problems) != 1 || problems[0].Source != "/etc/netplan/a.yaml" {
			t.Errorf("%s: %d interfaces, problems %v, want one problem", what, len(n.Interfaces), problems)
		}
	}
	many := ""
	for i := range 20 {
		many += fmt.Sprintf("-- x/etc/netplan/%02d.yaml --\nnetwork: {ethernets: {a: {dhcp4: true}}}\n#%s\n", i, strings.Repeat("x", 100<<10))
	}
	if n, problems := ReadNetwork(grown(t, many)); len(n.Interfaces) != 1 || len(problems) != 1 {
		t.Errorf("two megabytes of files: %d interfaces, problems %v, want one each", len(n.Interfaces), problems)
	}
	for _, text := range []string{"", "# nothing", "network:", "network: []", "network:\n  ethernets:\n", "- a", "a", "network:\n  version: 2\n  ethernets:\n    a:\n"} {
		if _, problems := ReadNetwork(grown(t, "-- x/etc/netplan/a.yaml --\n"+text+"\n")); len(problems) > 0 {
			t.Errorf("%q: problems %v, want none", text, problems)
		}
	}
}

func TestDevicesThatNetworkManagerLeavesAlone(t *testing.T) {
	named, byMAC := Interface{Name: "ens192"}, Interface{MAC: "00:50:56:aa:00:01"}
	for list, want := range map[string][2]bool{
		"":                       {false, false},
		"*":                      {true, true},
		"*,except:type:wifi":     {true, true},
		"*;except:type:ethernet": {false, false},
		"interface-name:ens*;interface-name:eth0":  {true, false},
		"interface-name:=ens*":                     {false, false},
		"mac:00:50:56:AA:00:01":                    {false, true},
		"00:50:56:AA:00:01":                        {false, true},
		"ens192":                                   {true, false},
		"*, except:interface-name:ens192":          {false, true},
		"except:interface-name:ens192":             {false, true},
		"driver:vmxnet3":                           {false, false},
		"interface-name:ens192,except:mac:00:50:5": {true, false},
	} {
		config := grown(t, "-- x/etc/NetworkManager/NetworkManager.conf --\n[keyfile]\nunmanaged-devices="+list+"\n")
		specs := openFiles(config).nmUnmanaged()
		if got := [2]bool{specs.has(named), specs.has(byMAC)}; got != want {
			t.Errorf("unmanaged-devices=%s has %v, want %v", list, got, want)
		}
	}
}

func TestHostileNetplanFilesCostAsMuchAsTheyAreLarge(t *testing.T) {
	cost := func(line string, size int) time.Duration {
		text := []byte(strings.Repeat(line, size/len(line)))
		began := time.Now()
		_, _, _ = ParseNetplan(text)
		return time.Since(began)
	}
	for _, line := range []string{"a: b\n", "- x\n", "a:\n ", "[", "{a: ", "? ", "- - ", "key: |\n  text\n", "- &a x\n- *a\n", "a: &a [*a]\n", "\"", "#x\n", "%TAG ! a\n"} {
		if took := cost(line, maxYAML); took > 5*time.Second { // 0.1 s where nothing else runs
			t.Errorf("%d bytes of %q took %v", maxYAML, line, took)
		}
	}
}

func TestPredictableNamesCarryVMwaresSlot(t *testing.T) {
	for name, want := range map[string]int{
		"ens192": 192, "ens33": 33, "enp11s0": 192, "enp3s0": 160, "enp19s0": 224, "enp27s0": 256, "enp2s1": 33,
		"enp4s0": 1184, "enp12s0": 1216, "ens161": 1184, "ens193": 1216, "ens162": 2208, "ens257": 1280, "ens256": 256, "eno16777984": 160, "eno16777736": 33, "eno16780032": 192, "eno33554960": 34,
	} {
		if got, ok := slotOfName(name); !ok || got != want {
			t.Errorf("slotOfName(%q) = %d, %v, want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{"eth0", "lan0", "br0", "enx005056aa0001", "enp99s0", "ens"} {
		if got, ok := slotOfName(name); ok {
			t.Errorf("slotOfName(%q) = %d, want none", name, got)
		}
	}
}

func TestTheKernelCountsCardsInTheOrderOfVMwaresPCIBus(t *testing.T) {
	nics := []machine.NIC{{Slot: 1184}, {Slot: 160}, {Slot: 192}, {Slot: 33}, {Slot: 1216}, {Slot: 224}}
	if got, want := kernelOrder(nics), []int{3, 1, 0, 2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("kernelOrder = %v, want %v", got, want)
	}
	nics[2].Slot = 0
	if got := kernelOrder(nics); !slices.IsSorted(got) {
		t.Errorf("kernelOrder with a slot that is not known = %v, want the record's", got)
	}
}

func TestAThousandHostileInterfacesAreMatchedInTime(t *testing.T) {
	var n Network
	for i := range maxFiles { // a chain of VLANs, each on the one before, and ports of one another
		n.Interfaces = append(n.Interfaces,
			Interface{Name: fmt.Sprint("v", i), Kind: "vlan", Parent: fmt.Sprint("v", i-1), Master: fmt.Sprint("v", i+1), Method: DHCP, By: ByIfupdown, Source: fmt.Sprint("/f:", i)},
			Interface{Name: fmt.Sprint("ens", 4000+i), Method: DHCP, By: ByNetworkd, Stack: "netplan", ID: fmt.Sprint(i), Source: fmt.Sprint("/g:", i)})
	}
	n.Interfaces[0].Parent = "ens192"
	m := machine.Machine{}
	for i := range 10 {
		m.NICs = append(m.NICs, machine.NIC{MAC: fmt.Sprintf("00:50:56:00:00:%02x", i), Slot: 192})
	}
	began := time.Now()
	c := Facts{Network: n}.Cards(m)
	if on := c.On(); len(on) != 10 || len(c.Doubts) == 0 {
		t.Errorf("%d cards, %d doubts", len(on), len(c.Doubts))
	}
	if took := time.Since(began); took > 5*time.Second { // 0.2 s where nothing else runs
		t.Errorf("took %v", took)
	}
}
