package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/vmware/vmwaretest"
)

// served is an appliance whose settings name a server as vc1, with its password.
func (l *vcenterLab) served(t *testing.T) (address, folder string) {
	t.Helper()
	folder = t.TempDir()
	socket := filepath.Join(folder, "agent.sock")
	settings := fmt.Sprintf("state: %[1]s/state\nlisten: [{unix: %[1]s/agent.sock}]\nstorages: [{name: kvm, path: %[1]s/kvm}, {name: ssd, path: %[1]s/ssd}]\nvsphere: [{name: vc1, server: '%[2]s', user: %[3]s, secret: vc1, thumbprint: '%[4]s', transports: [https]}]\n",
		folder, l.URL.Host, l.User, l.ThumbprintSHA256)
	file := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, storage := range []string{"kvm", "ssd"} {
		if err := os.Mkdir(filepath.Join(folder, storage), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		ended <- fmt.Sprint(run(ctx, []string{"serve", "--config", file}, &out, &out), " ", out.String())
	}()
	t.Cleanup(func() {
		end()
		if how := <-ended; t.Failed() {
			t.Log(how)
		}
	})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r, err := http.NewRequestWithContext(ctx, "PUT", "http://appliance/api/v1/secrets/vc1", strings.NewReader(l.Password))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/octet-stream")
		reply, err := client.Do(r)
		if err == nil && reply.StatusCode == http.StatusNoContent {
			return "unix:" + socket, folder
		}
		if time.Now().After(limit) {
			t.Fatalf("it answers with %+v, %v", reply, err)
		}
	}
}

func TestAnAppliancesServersAreAsked(t *testing.T) {
	l := newVCenterLab(t)
	l.tag(t, l.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 30}}}), "stage", "prod")
	l.AddVM(t, vmwaretest.VM{Name: "db01", Disks: []vmwaretest.Disk{{Size: 1 << 30, Sharing: "sharingMultiWriter"}}})
	there, _ := l.served(t)
	out, _ := told(t, 0, "vsphere", "vms", "vc1", "--appliance", there)
	if here, _ := l.told(t, 0, "vsphere", "vms", l.URL.Host); out != here {
		t.Errorf("listed there are\n%s\nand here\n%s", out, here)
	}
	out, _ = told(t, 0, "vsphere", "vms", "vc1", "--output", "csv", "--appliance", there)
	if here, _ := l.told(t, 0, "vsphere", "vms", l.URL.Host, "--output", "csv"); out != here || !strings.Contains(out, ",stage/prod,") {
		t.Errorf("listed there as CSV are\n%s\nand here\n%s", out, here)
	}
	if out, _ = told(t, 0, "vsphere", "vms", "vc1", "web*", "--output", "json", "--appliance", there); !strings.Contains(out, `"web01"`) || !strings.Contains(out, `"stage/prod"`) || strings.Contains(out, `"db01"`) {
		t.Errorf("as JSON:\n%s", out)
	}
	if out, _ = told(t, 0, "vsphere", "check", "vc1", "web01", "--appliance", there); !strings.Contains(out, "ok      vsphere/server: ") || !strings.Contains(out, "vsphere/govc: ") {
		t.Errorf("checked, it says\n%s", out)
	}
	for want, args := range map[string][]string{
		"no such vSphere server":                   {"vsphere", "vms", "vc2"},
		"its settings say how":                     {"vsphere", "vms", "vc1", "--user", "u"},
		"want text, json or csv":                   {"vsphere", "vms", "vc1", "--output", "xml"},
		"the appliance's settings say who logs in": {"migrate", "vsphere://u@vc1/web01", "--to", "kvm"},
		"vsphere thumbprint is not for":            {"vsphere", "thumbprint", "vc1"},
	} {
		var out, words bytes.Buffer
		if status := run(t.Context(), append(args, "--appliance", there), &out, &words); status == 0 || !strings.Contains(words.String(), want) {
			t.Errorf("%q ends with %d: %s", args, status, words.String())
		}
	}
}

// TestAnApplianceMigratesAVM that is named by its server's name in the settings.
func TestAnApplianceMigratesAVM(t *testing.T) {
	guesttest.Slow(t, guesttest.SmallPrograms...)
	l := newVCenterLab(t)
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	vm := l.AddVM(t, vmwaretest.VM{Name: "web01", On: true, NoTools: true, Disks: []vmwaretest.Disk{{Raw: raw}}, NICs: []vmwaretest.NIC{{MAC: "00:50:56:01:02:03"}}})
	there, folder := l.served(t)
	if out, _ := told(t, 0, "plan", "vsphere://vc1/web01", "--engine", "direct", "--appliance", there); !strings.Contains(out, "/etc/fstab") {
		t.Errorf("its plan is\n%s", out)
	}
	args := []string{"migrate", "vsphere://vc1/DC0/vm/web01", "--engine", "direct", "--no-test", "--to", "kvm", "--cpus", "3", "--network", "*=bridge:br7", "--storage", "datastore1=ssd", "--appliance", there}
	_, words := told(t, exitBadInput, args...)
	if !strings.Contains(words, "allow that it is powered off") {
		t.Errorf("without tools it ends with\n%s", words)
	}
	told(t, 0, "cancel", "web01", "--appliance", there)
	if _, words := told(t, exitUsage, append(args, "--power-off", "--mark-note", "moved")...); !strings.Contains(words, "give --no-test or --mark options, not both") {
		t.Errorf("marked without a proof it says\n%s", words)
	}
	if out, _ := told(t, 0, append(args, "--power-off", "--name", "other")...); !strings.Contains(out, "other: done, NOT TESTED") {
		t.Errorf("it ends with\n%s", out)
	}
	if out, _ := told(t, 0, "show", "other", "--appliance", there); !strings.Contains(out, "vsphere://vc1/DC0/vm/web01") {
		t.Errorf("shown is\n%s", out)
	}
	domain, err := os.ReadFile(filepath.Join(folder, "kvm", "other", "other.xml"))
	if err != nil || !strings.Contains(string(domain), "br7") || !strings.Contains(string(domain), ">3</vcpu>") {
		t.Errorf("its domain is %s, %v", domain, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "ssd", "other", "other-disk0.qcow2")); err != nil {
		t.Errorf("its disk did not go to where its datastore is mapped: %v", err)
	}
	told(t, 0, "verify", "other", "--appliance", there)
	if power, err := object.NewVirtualMachine(l.Client, vm.Ref).PowerState(t.Context()); err != nil || power != "poweredOff" {
		t.Errorf("the VM is %s, %v", power, err)
	}
}
