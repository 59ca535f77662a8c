package vmware

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Row is a VM and what stands against migrating it.
type Row struct {
	VM
	Concerns []Concern `json:"concerns"`
}

// Judged gives each VM its concerns.
func Judged(vms iter.Seq2[VM, error], a Around) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for vm, err := range vms {
			if !yield(Row{vm, Concerns(vm, a)}, err) {
				return
			}
		}
	}
}

// Rows are the VMs that a selection means, as VMs has them, with what stands against
// migrating each.
func (s *Session) Rows(ctx context.Context, sel Selection) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var a Around
		for vm, err := range s.each(ctx, sel, func(all []found) { a = among(all) }) {
			if !yield(Row{vm, Concerns(vm, a)}, err) {
				return
			}
		}
	}
}

// among is what judging one of some VMs needs.
func among(all []found) (a Around) {
	for _, f := range all {
		a.Add(VM{Name: unescaped(f.name), BIOSUUID: strings.ToLower(f.uuid)})
	}
	return a
}

// WriteJSON writes rows as one JSON array, each as it comes. An error of the rows ends
// it in the middle.
func WriteJSON[T any](w io.Writer, rows iter.Seq2[T, error]) error {
	out := bufio.NewWriter(w)
	between := "[\n"
	for row, err := range rows {
		if err != nil {
			return err
		}
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s", between, text); err != nil {
			return err
		}
		between = ",\n"
	}
	if between == "[\n" {
		_, _ = out.WriteString(between) // Flush tells of what failed
	}
	_, _ = out.WriteString("\n]\n")
	return out.Flush()
}

// column is one of a CSV file. New ones are put at the end, and none is renamed.
type column struct {
	name  string
	value func(Row) string
}

var columns = []column{
	{"ref", func(r Row) string { return r.Ref }},
	{"name", func(r Row) string { return r.Name }},
	{"path", func(r Row) string { return r.Path }},
	{"datacenter", func(r Row) string { return r.Datacenter }},
	{"cluster", func(r Row) string { return r.Cluster }},
	{"host", func(r Row) string { return r.Host }},
	{"power", func(r Row) string { return string(r.Power) }},
	{"template", func(r Row) string { return strconv.FormatBool(r.Template) }},
	{"instance_uuid", func(r Row) string { return r.InstanceUUID }},
	{"bios_uuid", func(r Row) string { return r.BIOSUUID }},
	{"guest_id", func(r Row) string { return r.GuestID }},
	{"guest_name", func(r Row) string { return r.GuestName }},
	{"host_name", func(r Row) string { return r.HostName }},
	{"addresses", func(r Row) string { return strings.Join(r.Addresses, " ") }},
	{"tools", func(r Row) string { return r.Tools }},
	{"hardware", func(r Row) string { return r.Hardware }},
	{"firmware", func(r Row) string { return string(r.Firmware) }},
	{"secure_boot", func(r Row) string { return strconv.FormatBool(r.SecureBoot) }},
	{"tpm", func(r Row) string { return strconv.FormatBool(r.TPM) }},
	{"cpus", func(r Row) string { return strconv.Itoa(r.CPUs) }},
	{"memory_bytes", func(r Row) string { return strconv.FormatInt(r.Memory, 10) }},
	{"disks", func(r Row) string { return strconv.Itoa(len(r.Disks)) }},
	{"disk_bytes", func(r Row) string { return strconv.FormatInt(r.size(), 10) }},
	{"used_bytes", func(r Row) string { return strconv.FormatInt(r.Used, 10) }},
	{"datastores", func(r Row) string { return each(r.Disks, func(d Disk) string { return d.Datastore }) }},
	{"nics", func(r Row) string { return strconv.Itoa(len(r.NICs)) }},
	{"macs", func(r Row) string { return each(r.NICs, func(n NIC) string { return n.MAC }) }},
	{"networks", func(r Row) string { return each(r.NICs, func(n NIC) string { return n.Network }) }},
	{"snapshots", func(r Row) string { return strconv.Itoa(CountSnapshots(r.Snapshots)) }},
	{"cbt", func(r Row) string { return strconv.FormatBool(r.CBT) }},
	{"tags", func(r Row) string { return each(r.Tags, func(t Tag) string { return t.Category + "/" + t.Name }) }},
	{"blockers", func(r Row) string { return r.codes(Blocker) }},
	{"warnings", func(r Row) string { return r.codes(Warning) }},
	{"unknown", func(r Row) string { return strings.Join(r.Unknown, " ") }},
}

// WriteCSV writes rows as a table with a line of names above. Cells that a spreadsheet
// would take for formulas get an apostrophe before them.
func WriteCSV(w io.Writer, rows iter.Seq2[Row, error]) error {
	out := csv.NewWriter(w)
	var line []string
	for _, c := range columns {
		line = append(line, c.name)
	}
	if err := out.Write(line); err != nil {
		return err
	}
	for row, err := range rows {
		if err != nil {
			return err
		}
		for i, c := range columns {
			line[i] = plain(c.value(row))
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// plain is a cell that is no formula.
//
// Source: OWASP, "CSV Injection"; the full-width forms are formulas in East Asian locales.
func plain(cell string) string {
	if first, _ := utf8.DecodeRuneInString(cell); cell != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + cell
	}
	return cell
}

// each are texts of some things, each once, in their order.
func each[T any](list []T, text func(T) string) string {
	var texts []string
	seen := map[string]bool{}
	for _, v := range list {
		if s := text(v); s != "" && !seen[s] {
			seen[s] = true
			texts = append(texts, s)
		}
	}
	return strings.Join(texts, "; ")
}

func (r Row) codes(level Level) string {
	return each(r.Concerns, func(c Concern) string {
		if c.Level != level {
			return ""
		}
		return c.Code
	})
}

// size is that of all disks together, in bytes.
func (vm VM) size() (n int64) {
	for _, d := range vm.Disks {
		n += d.Size
	}
	return n
}
