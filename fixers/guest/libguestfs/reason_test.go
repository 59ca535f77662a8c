//go:build appliance

package libguestfs

import (
	"errors"
	"testing"

	"libguestfs.org/guestfs"

	"hyper2kvm/fixers/guest"
)

func TestTheReasonOfAMountThatFailsIsOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"mount_options: mount exited with status 32: mount: /sysroot: wrong fs type, bad option, bad superblock on /dev/sdi6, missing codepage or helper program, or other error.\n       dmesg(1) may have more information after failed mount system call.": "wrong fs type, bad option, bad superblock on it, missing codepage or helper program, or other error.",
		"mount_options: mount exited with status 32: mount: /sysroot/srv: mount(2) system call failed: Structure needs cleaning.":                                                                                                                             "mount(2) system call failed: Structure needs cleaning.",
		"mount: /sysroot: bad superblock on /dev/sdah6, or other error.": "bad superblock on it, or other error.",
		"another\nerror": "another",
	} {
		if got := reason(&guestfs.GuestfsError{Op: "mount_options", Errmsg: text}, "/dev/sdi6"); got != want {
			t.Errorf("reason(%q) = %q, want %q", text, got, want)
		}
	}
	if got := reason(errors.New("closed"), "/dev/sdi6"); got != "closed" {
		t.Errorf("reason = %q", got)
	}
}

func TestKeysAreNotTraced(t *testing.T) {
	t.Setenv("LIBGUESTFS_TRACE", "1")
	t.Setenv("LIBGUESTFS_DEBUG", "1")
	for _, keys := range []*guest.Keyring{nil, guest.NewKeyring(nil)} {
		handle, err := guestfs.Create()
		if err != nil {
			t.Fatal(err)
		}
		if err := configure(handle, nil, Options{Keys: keys}); err != nil {
			t.Fatal(err)
		}
		trace, err := handle.Get_trace()
		verbose, failed := handle.Get_verbose()
		if err := errors.Join(err, failed); err != nil || trace != (keys == nil) || verbose != (keys == nil) {
			t.Errorf("with keys %v: trace %v, verbose %v, %v", keys != nil, trace, verbose, err)
		}
		if err := handle.Close(); err != nil {
			t.Error(err)
		}
	}
}
