package vmware

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// dmi is where the kernel tells of the machine. It is a variable for tests alone.
var dmi = "/sys/class/dmi/id"

// errElsewhere is a machine that is no VM of VMware's.
var errElsewhere = errors.New("this program does not run in a VM of VMware's")

// OwnVM is the MoRef of the VM that this program runs in. ErrNotFound: it runs in none
// of this server's. ErrAmbiguous: several have its UUID.
func (s *Session) OwnVM(ctx context.Context) (string, error) {
	vendor, err := os.ReadFile(filepath.Join(dmi, "sys_vendor"))
	if err != nil || !strings.HasPrefix(string(vendor), "VMware") {
		return "", fmt.Errorf("%w: %w", ErrNotFound, errElsewhere)
	}
	text, err := os.ReadFile(filepath.Join(dmi, "product_uuid"))
	if err != nil {
		return "", fmt.Errorf("this machine's UUID, which only root may read: %w", err)
	}
	uuids, err := bothOrders(strings.TrimSpace(string(text)))
	if err != nil {
		return "", err
	}
	refs, err := s.withUUID(ctx, uuids)
	if err != nil {
		return "", err
	}
	switch len(refs) {
	case 0:
		return "", fmt.Errorf("%w with this machine's UUID %s in %s", ErrNotFound, uuids[0], s.peer.host())
	case 1:
		return refs[0].Value, nil
	}
	return "", fmt.Errorf("%w by this machine's UUID %s: give the copies of this VM UUIDs of their own (uuid.bios)", ErrAmbiguous, uuids[0])
}

// withUUID finds VMs by BIOS or instance UUIDs.
func (s *Session) withUUID(ctx context.Context, uuids []string) (refs []types.ManagedObjectReference, err error) {
	for _, instance := range []bool{false, true} {
		for _, uuid := range uuids {
			answer, err := methods.FindAllByUuid(ctx, s, &types.FindAllByUuid{This: *s.client.ServiceContent.SearchIndex, Uuid: uuid, VmSearch: true, InstanceUuid: &instance})
			if err != nil {
				return nil, err
			}
			refs = append(refs, answer.Returnval...)
		}
	}
	return unique(refs), nil
}

// bothOrders is a UUID as the kernel says it, and as it is with the first three fields'
// bytes turned round: for VMs with hardware version 13 and later the two differ.
//
// Source: VMware KB 53609; SMBIOS 2.6, 7.2.1.
func bothOrders(text string) ([]string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, fmt.Errorf("this machine's UUID %q is none", text)
	}
	turned := slices.Clone(b)
	slices.Reverse(turned[0:4])
	slices.Reverse(turned[4:6])
	slices.Reverse(turned[6:8])
	return []string{dashed(b), dashed(turned)}, nil
}

func dashed(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// ownVM is OwnVM as a finding, which tells too of one that no disk can be attached to.
func (s *Session) ownVM(ctx context.Context, purposes []Purpose) (string, Finding) {
	ref, err := s.OwnVM(ctx)
	if err == nil {
		_, err = s.attachable(ctx, ref)
	}
	f := Finding{Code: "vsphere/own-vm", Level: Warning}
	switch {
	case err == nil:
		return ref, Finding{Code: f.Code, Level: OK, Text: fmt.Sprintf("this program runs in the VM %s of this server: hotadd can be had", ref)}
	case errors.Is(err, errElsewhere) && !slices.Contains(purposes, ForHotadd):
		f.Level, f.Text = OK, errElsewhere.Error()+": hotadd cannot be had"
	case ref != "":
		f.Text, f.Try = fmt.Sprintf("hotadd cannot be had: %v", err), "do that, or read disks in another way"
	default:
		f.Text, f.Try = fmt.Sprintf("hotadd cannot be had: %v", err), "run the appliance as a VM of this server, where the user sees it, as root; or read disks in another way"
	}
	return ref, f
}
