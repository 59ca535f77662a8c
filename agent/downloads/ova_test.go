package downloads

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/ova"
	"hyper2kvm/pipeline/proc"
)

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := proc.Look(program); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// packed are the files of an OVA, in their order.
func packed(t *testing.T, all []byte) (names []string, texts map[string][]byte) {
	t.Helper()
	texts = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(all)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if texts[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestAnOVASaysItsSettings, holds its manifest, imports, and has the disk as it was.
func TestAnOVASaysItsSettings(t *testing.T) {
	needs(t, "qemu-img")
	m := booted(t)
	k, _ := keeper(t, m)
	image := filepath.Join(m.Dev, "vda")
	disk := read(t, image)
	if err := ova.Write(t.Context(), ova.Usual("v1"), image, inStorage(k, "hyper2kvm.ova")); err != nil {
		t.Fatal(err)
	}
	_, base := packed(t, read(t, inStorage(k, "hyper2kvm.ova")))
	values := settings()
	values["settings"] = "log:\n  level: debug\n"
	for name, r := range map[string]Request{"of its own disk": {}, "of a file": {Base: place("hyper2kvm.ova")}} {
		t.Run(name, func(t *testing.T) {
			r.Form, r.Values = model.DownloadFormOva, values
			_, all := ready(t, k, r)
			names, texts := packed(t, all)
			if got := strings.Join(names, " "); got != "hyper2kvm.ovf hyper2kvm.mf hyper2kvm-disk1.vmdk" {
				t.Errorf("in it are %s", got)
			}
			var manifest string
			for _, n := range []string{names[0], names[2]} {
				manifest += fmt.Sprintf("SHA256(%s)= %x\n", n, sha256.Sum256(texts[n]))
			}
			if string(texts[names[1]]) != manifest {
				t.Errorf("the manifest is %s, want %s", texts[names[1]], manifest)
			}
			if r.Base != nil && !bytes.Equal(texts[names[2]], base[names[2]]) {
				t.Error("its disk is another one")
			}
			told(t, texts[names[0]])
			path := filepath.Join(t.TempDir(), "mover2.ova")
			write(t, path, string(all))
			imports(t, path)
			holds(t, texts[names[2]], disk, r.Base == nil)
		})
	}
}

// told holds a descriptor to the settings: those of several lines are encoded, and secret
// ones are passwords.
func told(t *testing.T, text []byte) {
	t.Helper()
	e, err := ovf.Unmarshal(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"hostname": "mover2.example.org", "address": "192.0.2.12/24", "gateway": "192.0.2.1", "ssh-key": sshKey, "settings": "base64:bG9nOgogIGxldmVsOiBkZWJ1Zw=="}
	for _, p := range e.VirtualSystem.Product[0].Property {
		if got := *p.Default; got != want[p.Key] {
			t.Errorf("%s is %q, want %q", p.Key, got, want[p.Key])
		}
		if secret := p.Password != nil && *p.Password; secret != (p.Key == "key" || p.Key == "join-token") {
			t.Errorf("%s is a password: %v", p.Key, secret)
		}
	}
}

// imports has the importer of govc read it and VMware's simulator take it.
func imports(t *testing.T, path string) {
	t.Helper()
	simulator.Test(func(ctx context.Context, c *vim25.Client) {
		f := find.NewFinder(c)
		dc, err := f.DefaultDatacenter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f.SetDatacenter(dc)
		store, err1 := f.Datastore(ctx, "LocalDS_0")
		pool, err2 := f.ResourcePool(ctx, "DC0_C0/Resources")
		host, err3 := f.HostSystem(ctx, "DC0_C0_H0")
		folders, err4 := dc.Folders(ctx)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		i := importer.Importer{Name: "mover2", Client: c, Finder: f, Datacenter: dc, Datastore: store, ResourcePool: pool, Host: host, Folder: folders.VmFolder,
			Archive: &importer.TapeArchive{Path: path}, Log: func(s string) (int, error) { return len(s), nil }}
		o := importer.Options{DiskProvisioning: "thin", NetworkMapping: []importer.Network{{Name: "Management", Network: "VM Network"}}}
		if _, err := i.Import(ctx, "*.ovf", o); err != nil {
			t.Error(err)
		}
	})
}

// holds has QEMU read the disk. One that was made here is the appliance, without what it
// has kept.
func holds(t *testing.T, vmdk, disk []byte, ours bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	write(t, path, string(vmdk))
	if _, err := proc.Run(t.Context(), "qemu-img", "check", "-q", "-f", "vmdk", "--", path); err != nil {
		t.Error(err)
	}
	if !ours {
		return
	}
	back := path + ".raw"
	if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", "vmdk", "-O", "raw", "--", path, back); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != ova.Capacity {
		t.Errorf("the disk is another one: %v", err)
	}
	got := make([]byte, len(disk))
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	const end = 10 * mib // of the partitions that start it
	disk = bytes.Clone(disk)
	copy(disk[mib:], onlyOne)
	if !bytes.Equal(got[:bootCode], disk[:bootCode]) || !bytes.Equal(got[mib:end], disk[mib:end]) || bytes.Contains(got[end:], disk[end:end+mib]) {
		t.Error("it is not the appliance, or has what that has kept")
	}
}

func TestTheOwnOVAIsMadeOnce(t *testing.T) {
	needs(t, "qemu-img")
	k, _ := keeper(t, booted(t))
	ready(t, k, Request{Form: model.DownloadFormOva, Values: settings()})
	path := filepath.Join(k.kept(), ownName(rootHash))
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, _ := ready(t, k, Request{Form: model.DownloadFormOva, Values: map[string]string{"hostname": "mover3"}})
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || d.Name != "mover3.ova" {
		t.Errorf("%s, and it is made anew, or not there: %v", d.Name, err)
	}
}

// tarred is an archive of files, by name and content in turn.
func tarred(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// largeHeader is the beginning of an archive whose first header has extensions without end.
func largeHeader(t *testing.T) string {
	t.Helper()
	b := []byte(tarred(t, "x", strings.Repeat("9", 2*mib)))
	const kind, sum = 156, 148
	b[kind] = tar.TypeXHeader
	copy(b[sum:], "        ")
	n := 0
	for _, c := range b[:512] {
		n += int(c)
	}
	copy(b[sum:], fmt.Sprintf("%06o\x00 ", n))
	return string(b[:512+2*mib])
}

func manifestOf(files ...string) (text string) {
	for i := 0; i < len(files); i += 2 {
		text += fmt.Sprintf("SHA256(%s)= %x\n", files[i], sha256.Sum256([]byte(files[i+1])))
	}
	return text
}

const (
	descriptorHead = `<?xml version="1.0"?><Envelope xmlns:ovf="x"><References><File ovf:href="d.vmdk"/></References><VirtualSystem><ProductSection>`
	descriptorTail = `</ProductSection></VirtualSystem></Envelope>`
	hostProperty   = `<Property ovf:key="hostname" ovf:value=""/>`
)

func TestAnOVAThatIsNotAsOursIsRefused(t *testing.T) {
	k, _ := keeper(t, Machine{Proc: booted(t).Proc})
	const disk = "KDMV and more"
	good := descriptorHead + hostProperty + descriptorTail
	of := func(text string) string {
		return tarred(t, "a.ovf", text, "a.mf", manifestOf("a.ovf", text, "d.vmdk", disk), "d.vmdk", disk)
	}
	link := func() string {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "a.ovf", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}); err != nil {
			t.Fatal(err)
		}
		return b.String() + of(good)
	}
	for name, c := range map[string]struct{ text, want string }{
		"good":              {of(good), ""},
		"empty":             {"", "it has no descriptor"},
		"text":              {strings.Repeat("text", 1000), "it is no OVA"},
		"no manifest":       {tarred(t, "a.ovf", good, "d.vmdk", disk), "it has no manifest"},
		"wrong manifest":    {tarred(t, "a.ovf", good, "a.mf", manifestOf("a.ovf", good, "d.vmdk", disk+"!"), "d.vmdk", disk), "d.vmdk is not what its manifest says"},
		"silent manifest":   {tarred(t, "a.ovf", good, "a.mf", manifestOf("d.vmdk", disk), "d.vmdk", disk), "a.ovf is not what its manifest says"},
		"two disks":         {tarred(t, "a.ovf", good, "a.mf", "", "d.vmdk", disk, "e.vmdk", disk), "more than one file like e.vmdk"},
		"a folder":          {tarred(t, "../a.ovf", good, "a.mf", "", "d.vmdk", disk), `it has "../a.ovf" in it`},
		"another file":      {tarred(t, "a.ovf", good, "a.iso", ""), "it has the file a.iso"},
		"a link":            {link(), `it has "a.ovf" in it`},
		"a long name":       {tarred(t, strings.Repeat("a", 300)+".ovf", good), "in it, or more than"},
		"a large header":    {largeHeader(t) + of(good), "it is no OVA"},
		"a long descriptor": {tarred(t, "a.ovf", strings.Repeat(" ", mostText+1)), "has more than 1048576 bytes"},
		"cut":               {of(good)[:2100], "it is no OVA"},
		"no VMDK":           {tarred(t, "a.ovf", good, "a.mf", manifestOf("a.ovf", good, "d.vmdk", "text"), "d.vmdk", "text"), "d.vmdk is no VMDK"},
		"another disk":      {of(strings.Replace(good, "d.vmdk", "/etc/shadow", 1)), "refers to"},
		"no property":       {of(descriptorHead + descriptorTail), "has no property hostname"},
		"a document type":   {of(`<!DOCTYPE Envelope [<!ENTITY a "b">]>` + good), "has a document type"},
		"deep":              {of(strings.Repeat("<a>", mostNested+1)), "is nested deeper"},
		"not closed":        {of(descriptorHead + hostProperty), "is no XML"},
		"crossed":           {of("<a></b></a>"), "is no XML"},
		"chunks":            {of(strings.Replace(good, "ovf:href", `ovf:chunkSize="7" ovf:href`, 1)), "compressed or in chunks"},
	} {
		write(t, inStorage(k, "a.ova"), c.text)
		d := done(t, k, Request{Form: model.DownloadFormOva, Values: map[string]string{"hostname": "a"}, Base: place("a.ova")})
		if failed := d.State == model.DownloadStateFailed; failed != (c.want != "") || !strings.Contains(d.Detail, c.want) {
			t.Errorf("%s: %s, %.300q", name, d.State, d.Detail)
		}
		if err := k.Remove(d.ID); err != nil {
			t.Fatal(err)
		}
	}
}
