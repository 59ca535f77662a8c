package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"hyper2kvm/agent/dashboard"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/proc"
)

// applianceNetwork is the network of the appliance whose files are below a root folder,
// set up as first boot does.
type applianceNetwork struct{ root string }

func (n applianceNetwork) form() dashboard.Network {
	return dashboard.Network{Now: n.now, Check: n.check, Keep: n.keep}
}

// now is what counts, whoever has said it.
func (n applianceNetwork) now() (f dashboard.Form) {
	counts := map[string]string{}
	if r, err := firstboot.ReadReport(n.root); err == nil { // without one nothing was said
		for _, a := range r.Applied {
			counts[a.Key] = a.Value
		}
	}
	maps.Copy(counts, firstboot.Kept(n.root))
	f = dashboard.Form{Card: counts["nic"], Address: counts["address"], Gateway: counts["gateway"], DNS: counts["dns"], Keymap: counts["keymap"], Hostname: counts["hostname"]}
	if f.Static = f.Address != "" && f.Address != byDHCP; !f.Static {
		f.Address = ""
	}
	return f
}

// byDHCP is first boot's word for addresses that the network gives.
const byDHCP = "dhcp"

// values are a form by first boot's keys, beside what was kept for others.
func (n applianceNetwork) values(f dashboard.Form) map[string]string {
	v := firstboot.Kept(n.root)
	maps.Copy(v, map[string]string{"nic": f.Card, "address": f.Address, "gateway": f.Gateway, "dns": f.DNS, "keymap": f.Keymap, "hostname": f.Hostname})
	if !f.Static {
		v["address"], v["gateway"] = byDHCP, ""
	}
	return v
}

func (n applianceNetwork) check(f dashboard.Form) error {
	if f.Static && f.Address == "" {
		return errors.New("an address is missing: write one such as 192.0.2.10/24, or choose DHCP")
	}
	return said(firstboot.Check(n.root, n.values(f)))
}

// said is an error without what everybody knows who has just filled in a form.
func said(err error) error {
	if errors.Is(err, firstboot.ErrValue) {
		return errors.New(strings.TrimPrefix(err.Error(), firstboot.ErrValue.Error()+": "))
	}
	return err
}

// applyWithin is how long first boot and the network may take.
const applyWithin = time.Minute

// keep keeps a form for the next boots, has first boot write the files of the network
// anew, and the network read them.
func (n applianceNetwork) keep(ctx context.Context, f dashboard.Form) error {
	if err := firstboot.Keep(n.root, n.values(f)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, applyWithin, fmt.Errorf("not done within %v", applyWithin))
	defer cancel()
	if _, err := (firstboot.Boot{Root: n.root, GuestInfo: firstboot.VMware(n.root)}).Run(ctx); err != nil {
		return fmt.Errorf("it is kept, and counts from the next start on; it was not applied: %w", err)
	}
	if _, err := proc.Run(ctx, "systemctl", "restart", "systemd-networkd.service", "systemd-resolved.service"); err != nil {
		return fmt.Errorf("it is kept, and counts from the next start on; it was not applied: %w", err)
	}
	return nil
}
