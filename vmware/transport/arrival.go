package transport

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// scsiDisk is a disk that the kernel has, with the names by which it can be known.
type scsiDisk struct {
	name string   // sdb
	ids  []string // normal
}

// mostPage is how much is read of what a disk says of itself, in bytes.
const mostPage = 4 << 10

// disks are those that the kernel has.
func (k kernel) disks() (all []scsiDisk, err error) {
	list, err := os.ReadDir(filepath.Join(k.sys, "block"))
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		d := scsiDisk{name: e.Name()}
		page := func(name string) []byte { return readPage(filepath.Join(k.sys, "block", e.Name(), name)) }
		d.ids = designators(page("device/vpd_pg83"))
		if serial := page("device/vpd_pg80"); len(serial) > 4 {
			d.ids = append(d.ids, normal(string(serial[4:])))
		}
		for _, name := range []string{"device/wwid", "wwid", "device/serial", "serial"} {
			if id := normal(string(page(name))); id != "" {
				d.ids = append(d.ids, id)
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// readPage reads what a disk says of itself; nothing if it says nothing.
func readPage(file string) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	page, err := io.ReadAll(io.LimitReader(f, mostPage))
	if err != nil {
		return nil
	}
	return page
}

// designators are the names in a device identification page that are of the disk itself:
// binary ones in hex, others as text.
//
// Source: SPC-4, 7.8.6, "Device Identification VPD page".
func designators(page []byte) (ids []string) {
	const header = 4
	if len(page) < header {
		return nil
	}
	for rest := page[header:]; len(rest) >= header; {
		length := int(rest[3])
		if length > len(rest)-header {
			return ids
		}
		name := rest[header : header+length]
		binary, disk := rest[0]&0xf == 1, rest[1]>>4&3 == 0
		switch {
		case !disk:
		case binary:
			ids = append(ids, hex.EncodeToString(name))
		default:
			ids = append(ids, normal(string(name)))
		}
		rest = rest[header+length:]
	}
	return ids
}

// normal is a name without what its writers put around it: naa.6000C29…, and a UUID with
// dashes or blanks, are the same digits.
func normal(id string) string {
	id = strings.ToLower(strings.Trim(id, " \t\n\x00"))
	for _, kind := range []string{"naa.", "eui.", "uuid."} {
		id = strings.TrimPrefix(id, kind)
	}
	return strings.NewReplacer("-", "", " ", "", "\x00", "").Replace(id)
}

// errLate is a disk that has not arrived in its time.
var errLate = errors.New("late")

// arrival waits for the disk with a serial number, and tells its name. before are those
// that were there before it was attached.
func (k kernel) arrival(ctx context.Context, before []scsiDisk, serial string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, k.wait, errLate)
	defer cancel()
	look := time.NewTicker(k.look)
	defer look.Stop()
	for scanned := time.Now(); ; {
		now, err := k.disks()
		if err != nil {
			return "", err
		}
		name, err := choose(before, now, normal(serial))
		if err != nil || name != "" && k.there(name) {
			return name, err
		}
		if time.Since(scanned) > k.rescan {
			k.scan()
			scanned = time.Now()
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return "", k.missing(ctx, before, now, serial)
		}
	}
}

// there tells whether the kernel has made a device's file.
func (k kernel) there(name string) bool {
	_, err := os.Stat(filepath.Join(k.dev, name))
	return err == nil
}

// choose is the disk with a serial number: one that arrived before one that was there,
// of which the disk may be gone.
func choose(before, now []scsiDisk, serial string) (string, error) {
	var arrived, old []string
	for _, d := range now {
		switch {
		case serial == "" || !slices.Contains(d.ids, serial):
		case had(before, d.name):
			old = append(old, d.name)
		default:
			arrived = append(arrived, d.name)
		}
	}
	if len(arrived) == 0 {
		arrived = old
	}
	switch len(arrived) {
	case 0:
		return "", nil
	case 1:
		return arrived[0], nil
	}
	return "", fmt.Errorf("%w by hot-add: %s have all the disk's serial number: detach what is left of earlier disks from this appliance", ErrUnusable, strings.Join(arrived, ", "))
}

func had(list []scsiDisk, name string) bool {
	return slices.ContainsFunc(list, func(d scsiDisk) bool { return d.name == name })
}

// scan has the SCSI hosts look for disks. One that cannot has no disk for us, or the disk
// does not arrive, which is told.
//
// Source: Linux, Documentation/scsi/scsi_mid_low_api, "Hotplug initialization model".
func (k kernel) scan() {
	hosts, _ := filepath.Glob(filepath.Join(k.sys, "class", "scsi_host", "*", "scan"))
	for _, host := range hosts {
		_ = os.WriteFile(host, []byte("- - -"), 0)
	}
}

// missing says what to do about a disk that does not arrive.
func (k kernel) missing(ctx context.Context, before, now []scsiDisk, serial string) error {
	if context.Cause(ctx) != errLate {
		return context.Cause(ctx)
	}
	var nameless []string
	for _, d := range now {
		if !had(before, d.name) {
			nameless = append(nameless, d.name)
		}
	}
	seen := "no disk arrived"
	if len(nameless) > 0 {
		seen = strings.Join(nameless, ", ") + " arrived without that number"
	}
	return fmt.Errorf("%w by hot-add: the disk with the serial number %s was attached, and %s within %v: set disk.EnableUUID to TRUE in the advanced settings of this appliance's VM, with the VM off", ErrUnusable, serial, seen, k.wait)
}
