package vmware

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRVTools is a file that is not what RVTools exports.
var ErrRVTools = errors.New("not an export of RVTools")

// ReadRVTools reads the VMs that RVTools has exported: an .xlsx file, a folder with the
// .csv files of an export, or the one of vInfo alone. It is for planning without a
// server: what the export does not say stays empty and stands in Unknown, and VMs are
// migrated by what their server says of them.
//
// Source: RVTools documentation, 3.11 to 4.7, "Export all to xlsx" and "to csv".
func ReadRVTools(path string) ([]VM, error) {
	book, err := openBook(path)
	if err != nil {
		return nil, err
	}
	defer book.close()
	im := importer{vms: map[string]*VM{}}
	for _, tab := range tabs {
		err := book.read(tab.name, func(r tabRow) error { return tab.take(&im, r) }, func(columns []string) error { return im.begin(tab, columns) })
		switch {
		case errors.Is(err, errNoTab) && tab.name == "vInfo":
			return nil, fmt.Errorf("%w: %s has no tab vInfo; export all tabs in RVTools", ErrRVTools, path)
		case errors.Is(err, errNoTab):
			im.unknown = append(im.unknown, tab.without...)
		case err != nil:
			return nil, fmt.Errorf("%s: %s: %w", path, tab.name, err)
		}
	}
	return im.finish(), nil
}

// tab is one of RVTools'.
type tab struct {
	name    string
	take    func(*importer, tabRow) error
	columns map[string][]string // fields of the record, by the columns that say them
	without []string            // fields that nothing says without the tab
}

// never are fields that RVTools does not export, or not in these tabs.
var never = []string{
	"host_state", "cluster_drs", "cluster_dpm", "guest_id", "tools", "tools_kind", "tpm", "encrypted", "cores_per_socket", "hot_add_cpu", "hot_add_memory", "cpu_affinity", "numa_affinity",
	"disks.model", "disks.files.parents", "disks.change_id", "disks.reachable", "nics.slot", "snapshots.children", "passthrough", "usb", "cbt_supported", "tasks", "question", "managed_by", "disks.filters", "disks.encrypted",
}

var tabs = []tab{
	{"vInfo", (*importer).info, map[string][]string{
		"power": {"powerstate"}, "datacenter": {"datacenter"}, "host": {"host"}, "firmware": {"firmware"}, "secure_boot": {"efi secure boot"}, "cbt": {"cbt"}, "disk_uuid": {"enableuuid"},
		"consolidate": {"consolidation needed"}, "fault_tolerance": {"ft state"}, "used": {"in use mib", "in use mb"}, "addresses": {"primary ip address"}, "host_name": {"dns name"},
		"hardware": {"hw version"}, "bios_uuid": {"smbios uuid", "vm uuid"}, "state": {"connection state"}, "vmx": {"path"}, "pool": {"resource pool"}, "rules": {"cluster rule name(s)"}, "annotation": {"annotation"},
	}, nil},
	{"vDisk", (*importer).disk, map[string][]string{"disks.sharing": {"sharing mode"}, "disks.mode": {"disk mode", "persistence"}, "disks.uuid": {"disk uuid"}, "disks.files": {"path", "disk path"}}, []string{"disks"}},
	{"vNetwork", (*importer).nic, map[string][]string{"nics.model": {"adapter"}, "nics.connected": {"starts connected"}}, []string{"nics", "nics.network", "nics.model"}},
	{"vSnapshot", (*importer).snapshot, nil, []string{"snapshots"}},
	{"vPartition", (*importer).partition, nil, []string{"partitions"}},
}

// importer puts tabs together.
type importer struct {
	vms     map[string]*VM
	order   []string
	keys    [][]string // the columns by which tabs name VMs, the surest first
	key     []string   // those of the tab that is read
	unknown []string
}

// begin looks at a tab's columns.
func (im *importer) begin(t tab, columns []string) error {
	if !slices.Contains(columns, "vm") {
		return fmt.Errorf("%w: there is no column VM in its first row, but %.100q", ErrRVTools, columns)
	}
	for field, names := range t.columns {
		if !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(columns, n) }) {
			im.unknown = append(im.unknown, field)
		}
	}
	has := func(key []string) bool {
		return !slices.ContainsFunc(key, func(c string) bool { return !slices.Contains(columns, c) })
	}
	if t.name == "vInfo" {
		im.keys = slices.DeleteFunc([][]string{{"vi sdk uuid", "vm id"}, {"vi sdk server", "vm id"}, {"vm id"}, {"vm uuid"}, {"vm"}}, func(k []string) bool { return !has(k) })
	}
	if i := slices.IndexFunc(im.keys, has); i >= 0 {
		im.key = im.keys[i]
	}
	return nil
}

// nameBy is what a row calls its VM, by one kind of key.
func nameBy(key []string, r tabRow) string {
	var b strings.Builder
	b.WriteString(key[len(key)-1])
	for _, c := range key {
		b.WriteString("\x00" + r.text(c))
	}
	return b.String()
}

// vm is the VM of a row; nil for one that vInfo does not have.
func (im *importer) vm(r tabRow) *VM { return im.vms[nameBy(im.key, r)] }

// info takes a row of vInfo.
func (im *importer) info(r tabRow) error {
	vm := &VM{
		Name: r.text("vm"), Power: powerWords[strings.ToLower(r.text("powerstate"))], Template: r.yes("template"),
		Ref: r.text("vm id"), InstanceUUID: strings.ToLower(r.text("vm uuid")), BIOSUUID: strings.ToLower(cmp.Or(r.text("smbios uuid"), r.text("vm uuid"))),
		Datacenter: r.text("datacenter"), Cluster: r.text("cluster"), Host: r.text("host"), Pool: r.text("resource pool"), VMX: r.text("path"),
		Annotation: r.text("annotation"), HostName: r.text("dns name"), GuestName: cmp.Or(r.text("os according to the vmware tools"), r.text("os according to the configuration file"), r.text("os")),
		Firmware: firmwares[strings.ToLower(r.text("firmware"))], SecureBoot: r.yes("efi secure boot"), DiskUUID: r.yes("enableuuid"), CBT: r.yes("cbt"),
		Consolidate: r.yes("consolidation needed"), Hardware: hardwareText(r.text("hw version")),
		Used: r.size("in use mib", "in use mb"), Unshared: r.size("unshared mib", "unshared mb"), Memory: r.size("memory"), CPUs: int(r.number("cpus")),
	}
	if vm.Name == "" {
		return nil // RVTools ends some tabs with sums
	}
	if vm.Power == "" {
		return fmt.Errorf("%w: row %d: the power state of %q is %q", ErrRVTools, r.row, vm.Name, r.text("powerstate"))
	}
	if s := r.text("connection state"); s != "connected" {
		vm.State = s
	}
	ft := strings.ToLower(r.text("ft state"))
	vm.FaultTolerance = ft != "" && ft != "notconfigured"
	if a := r.text("primary ip address"); a != "" {
		vm.Addresses = []string{a}
	}
	if rules := r.text("cluster rule name(s)"); rules != "" {
		vm.Rules = []string{rules}
	}
	vm.Path = importedPath(vm, r.text("folder"))
	for i, key := range im.keys {
		name := nameBy(key, r)
		if i == 0 {
			im.order = append(im.order, name)
		}
		im.vms[name] = vm
	}
	return nil
}

// importedPath is a VM's place in the inventory as far as it is known.
func importedPath(vm *VM, folder string) string {
	return strings.ReplaceAll("/"+vm.Datacenter+"/vm/"+strings.Trim(folder, "/")+"/"+vm.Name, "//", "/")
}

var powerWords = map[string]Power{"poweredon": On, "poweredoff": Off, "suspended": Suspended}

// hardwareText is vmx-19, which some versions write as 19.
func hardwareText(text string) string {
	if text == "" || strings.HasPrefix(text, "vmx-") {
		return text
	}
	return "vmx-" + fmt.Sprintf("%02s", text)
}

// disk takes a row of vDisk.
func (im *importer) disk(r tabRow) error {
	vm := im.vm(r)
	if vm == nil {
		return nil
	}
	file := cmp.Or(r.text("path"), r.text("disk path"))
	d := Disk{Label: r.text("disk"), Key: int32(r.number("disk key")), UUID: r.text("disk uuid"), Size: r.size("capacity mib", "capacity mb"), Thin: r.yes("thin"), Mode: r.text("disk mode", "persistence"), Kind: "flat", Reachable: true}
	if file != "" {
		d.Files = []string{file}
		d.Datastore, _, _ = strings.Cut(strings.TrimPrefix(file, "["), "]")
	}
	if r.yes("raw") {
		d.Kind, d.Device = "rdm-virtual", r.text("raw lun id")
		if strings.HasPrefix(strings.ToLower(r.text("raw comp. mode", "raw com. mode")), "physical") {
			d.Kind = "rdm-physical"
		}
	}
	if s := r.text("sharing mode"); s != "sharingNone" {
		d.Sharing = s
	}
	if s := strings.TrimSuffix(r.text("shared bus"), "Sharing"); s != "no" {
		d.BusSharing = s
	}
	d.Bus, d.Controller = importedBus(r.text("controller"))
	d.Unit = int(r.number("unit #", "scsi unit #"))
	vm.Disks = append(vm.Disks, d)
	return nil
}

// importedBus reads VMware's label of a controller: SCSI controller 0, IDE 1.
func importedBus(text string) (bus string, number int) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) == 0 {
		return "", 0
	}
	bus = words[0]
	if !slices.Contains(busOrder, bus) {
		return "", 0
	}
	_, _ = fmt.Sscan(words[len(words)-1], &number)
	return bus, number
}

// nic takes a row of vNetwork.
func (im *importer) nic(r tabRow) error {
	vm := im.vm(r)
	if vm == nil {
		return nil
	}
	n := NIC{Label: r.text("nic label", "label"), Model: importedModel(r.text("adapter")), MAC: macAddress(r.text("mac address")), Network: r.text("network"), Connected: r.yes("starts connected")}
	for _, c := range []string{"ipv4 address", "ipv6 address", "ip address"} {
		n.Addresses = append(n.Addresses, strings.FieldsFunc(r.text(c), func(c rune) bool { return c == ',' || c == ' ' || c == ';' })...)
	}
	vm.NICs = append(vm.NICs, n)
	return nil
}

// importedModel is RVTools' name of a card as VMware's virtualDev.
func importedModel(text string) string {
	name := strings.TrimPrefix(strings.ToLower(text), "virtual")
	if name == "pcnet32" || name == "flexible" {
		return "vlance"
	}
	return name
}

// snapshot takes a row of vSnapshot, which says not on which other each stands.
func (im *importer) snapshot(r tabRow) error {
	if vm := im.vm(r); vm != nil {
		vm.Snapshots = append(vm.Snapshots, Snapshot{Name: r.text("name"), Text: r.text("description"), Created: r.time("date / time")})
	}
	return nil
}

// partition takes a row of vPartition.
func (im *importer) partition(r tabRow) error {
	if vm := im.vm(r); vm != nil {
		vm.Partitions = append(vm.Partitions, Partition{Path: r.text("disk"), Capacity: r.size("capacity mib", "capacity mb"), Free: r.size("free mib", "free mb")})
	}
	return nil
}

// finish is all VMs, in their order, with what is not known of them.
func (im *importer) finish() []VM {
	unknown := slices.Compact(slices.Sorted(slices.Values(slices.Concat(never, im.unknown))))
	var vms []VM
	for _, name := range im.order {
		vm := im.vms[name]
		vm.Unknown = unknown
		if vm.Firmware == "" {
			vm.Unknown = with(unknown, "firmware")
		}
		slices.SortStableFunc(vm.Disks, firmwareOrder)
		vms = append(vms, *vm)
	}
	return vms
}

// with is a sorted list with one more.
func with(list []string, more string) []string {
	return slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(list), more))))
}
