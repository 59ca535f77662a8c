package downloads

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vmware/govmomi/ovf"
)

// TestADescriptorKeepsWhatItIsNotTold, byte for byte, and a value can be anything.
func TestADescriptorKeepsWhatItIsNotTold(t *testing.T) {
	other := `<!-- <Property ovf:key="hostname"> --><Property  ovf:key='b'   ovf:value = '1' >` + "\r\n" + `<Label>a &amp; b</Label></Property>`
	const nasty = `"/><Property ovf:key="b" ovf:value='&amp;'>` + "\x00\t"
	got, err := tell([]byte(descriptorHead+other+hostProperty+descriptorTail), "d.vmdk", map[string]string{"hostname": nasty})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte(descriptorHead+other+`<Property ovf:key="hostname" ovf:value="`)) || !bytes.HasSuffix(got, []byte(`"/>`+descriptorTail)) || bytes.Count(got, []byte("<Property")) != 3 {
		t.Errorf("got %s", got)
	}
	e, err := ovf.Unmarshal(bytes.NewReader(got))
	if err != nil || *e.VirtualSystem.Product[0].Property[1].Default != strings.ReplaceAll(nasty, "\x00", "\uFFFD") {
		t.Errorf("%v", err)
	}
}
