package pipeline

import (
	"reflect"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/testers/watch"
)

func TestWhatAGuestMayAskForIsNamedAsItDoes(t *testing.T) {
	f := inspect.Facts{
		Topology: guest.Topology{Volumes: []guest.Volume{
			{Name: "luks/4d2f", UUID: "4d2f", On: []string{"disk0p2"}, Crypt: &guest.Crypt{}},
			{Name: "vg/root", On: []string{"luks/4d2f"}},
			{Name: "luks/77ab", UUID: "77ab", On: []string{"disk1"}, Crypt: &guest.Crypt{}, Problem: "locked"},
		}},
		Aliases: []inspect.Alias{{Name: "/dev/mapper/sda2_crypt", Device: "luks/4d2f"}, {Name: "/dev/disk/by-id/dm-name-sda2_crypt", Device: "luks/4d2f"},
			{Name: "/dev/mapper/vg-root", Device: "vg/root"}},
	}
	keys := guest.NewKeyring(nil)
	keys.Typed["disk0p2"] = guest.Secret("sesame")
	want := []watch.Passphrase{watch.NewPassphrase([]byte("sesame"), "4d2f", "sda2_crypt"), watch.NewPassphrase(nil, "77ab")}
	if got := passphrases(f, keys); !reflect.DeepEqual(got, want) {
		t.Errorf("%d passphrases, not those for sda2_crypt and the UUID 77ab", len(got))
	}
	if got := passphrases(f, nil); !reflect.DeepEqual(got[0], watch.NewPassphrase(nil, "4d2f", "sda2_crypt")) {
		t.Error("without keys there is a passphrase")
	}
	keys.Wipe()
	if !reflect.DeepEqual(passphrases(f, keys), passphrases(f, nil)) {
		t.Error("a wiped ring has a passphrase")
	}
}
