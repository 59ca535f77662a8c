package vmware

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
)

func these(vms ...VM) iter.Seq2[VM, error] {
	return func(yield func(VM, error) bool) {
		for _, vm := range vms {
			if !yield(vm, nil) {
				return
			}
		}
	}
}

func TestATableHasNoFormulas(t *testing.T) {
	vm := sound()
	vm.Name, vm.GuestName, vm.HostName, vm.Host, vm.Template = `=HYPERLINK("http://x","y")`, "+1", "@SUM(A1)", "-2+3", true
	vm.Addresses, vm.Disks = []string{"\tx"}, append(vm.Disks, Disk{Size: 1 << 30, Datastore: `a"b,c`, Reachable: true, Kind: "flat"})
	var out bytes.Buffer
	if err := WriteCSV(&out, Judged(these(vm, sound()), Around{})); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(lines) != 3 {
		t.Fatalf("%q, %v", lines, err)
	}
	cell := func(name string) string { return lines[1][slices.Index(lines[0], name)] }
	for name, want := range map[string]string{
		"name": `'=HYPERLINK("http://x","y")`, "guest_name": "'+1", "host_name": "'@SUM(A1)", "host": "'-2+3", "addresses": "'\tx",
		"datastores": `a; a"b,c`, "disks": "2", "disk_bytes": "11811160064", "template": "true", "blockers": "vsphere/template",
	} {
		if got := cell(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := lines[2][1]; got != "web01" {
		t.Errorf("a plain name is %q", got)
	}
}

// Whoever reads tables by their columns finds them where they were.
func TestColumnsStay(t *testing.T) {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	const were = "ref name path datacenter cluster host power template instance_uuid bios_uuid guest_id guest_name host_name addresses tools hardware firmware secure_boot tpm cpus memory_bytes disks disk_bytes used_bytes datastores nics macs networks snapshots cbt tags blockers warnings unknown"
	if got := strings.Join(names, " "); !strings.HasPrefix(got, were) {
		t.Errorf("columns are %s, and were %s", got, were)
	}
}

func TestRowsAreWrittenAsJSON(t *testing.T) {
	odd := sound()
	odd.USB = true
	for _, vms := range [][]VM{nil, {sound()}, {odd, sound()}} {
		var out bytes.Buffer
		if err := WriteJSON(&out, Judged(these(vms...), Around{})); err != nil {
			t.Fatal(err)
		}
		var rows []Row
		if err := json.Unmarshal(out.Bytes(), &rows); err != nil || len(rows) != len(vms) {
			t.Fatalf("%s: %v", out.String(), err)
		}
		if len(rows) > 0 && (rows[0].Name != "web01" || rows[0].Disks[0].Files[0] != "[a] b/c.vmdk") {
			t.Errorf("%+v", rows[0])
		}
		if len(rows) > 1 && rows[0].Concerns[0].Code != "vsphere/usb" {
			t.Errorf("%+v", rows[0].Concerns)
		}
	}
}

func TestAnErrorOfTheRowsIsTheWriters(t *testing.T) {
	cut := errors.New("cut")
	rows := func(yield func(Row, error) bool) { _ = yield(Row{VM: sound()}, nil) && yield(Row{}, cut) }
	if err := WriteCSV(&bytes.Buffer{}, rows); !errors.Is(err, cut) {
		t.Errorf("CSV: %v", err)
	}
	if err := WriteJSON(&bytes.Buffer{}, rows); !errors.Is(err, cut) {
		t.Errorf("JSON: %v", err)
	}
}
