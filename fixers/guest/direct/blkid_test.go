package direct

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
)

func TestBlkidIsAskedForAPartOfAFile(t *testing.T) {
	want := []string{"-p", "-o", "udev", "--offset", "1048576", "--size", "512", "/disk"}
	if got := blkidArgs("/disk", 1<<20, 512); !slices.Equal(got, want) {
		t.Errorf("blkidArgs = %q, want %q", got, want)
	}
}

func TestBlkidsLabelsAreUnescaped(t *testing.T) {
	// Output of blkid 2.38.1 on an ext3.
	got, err := parseBlkid([]byte("ID_FS_LABEL=ü__x__q\nID_FS_LABEL_ENC=ü\\x20\\x5cx\\x20\\x22q\n" +
		"ID_FS_UUID=11111111-2222-4333-8444-555555555504\nID_FS_UUID_ENC=11111111-2222-4333-8444-555555555504\n" +
		"ID_FS_VERSION=1.0\nID_FS_BLOCK_SIZE=1024\nID_FS_TYPE=ext3\nID_FS_USAGE=filesystem\n"))
	want := guest.Filesystem{Type: "ext3", UUID: "11111111-2222-4333-8444-555555555504", Label: `ü \x "q`}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{`ID_FS_LABEL_ENC=\x`, `ID_FS_LABEL_ENC=\xzz`, `ID_FS_UUID_ENC=a\x2`} {
		if _, err := parseBlkid([]byte(bad)); err == nil {
			t.Errorf("parseBlkid(%q) succeeded", bad)
		}
	}
}
