package direct

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

// TestBlkidIsAskedForAPartOfAFile, which is all that it may see: a script in its place says
// how it was asked, and what it can do.
func TestBlkidIsAskedForAPartOfAFile(t *testing.T) {
	guesttest.Need(t)
	own := standIn(t, "blkid", `exec 2>/dev/null
		grep -q '^CapEff:.0000000000000000$' /proc/self/status && can=nothing
		(: >> $own/there) && can=$can,write
		(: >> /dev/loop-control) && can=$can,loops
		(echo x >&0) && can=$can,pass
		echo "ID_FS_TYPE=$can"
		echo "ID_FS_LABEL_ENC=$*"`)
	file := filepath.Join(own, "there")
	must(t, os.WriteFile(file, []byte("content\n"), 0o644))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	got, ok, err := Identify(t.Context(), f, 1<<20, 512, slog.New(slog.DiscardHandler))
	want := guest.Filesystem{Type: "nothing", Label: "-p -o udev --offset 1048576 --size 512 /proc/self/fd/0", Size: 512}
	if version, unknown := landlockVersion(); version == 0 {
		guesttest.Missing(t, fmt.Sprintf("this kernel has no Landlock: %v", unknown))
	}
	if diff := cmp.Diff(want, got); !ok || err != nil || diff != "" {
		t.Error(ok, err, diff)
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
