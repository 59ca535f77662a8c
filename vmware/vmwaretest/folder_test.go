package vmwaretest_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"

	"hyper2kvm/vmware/vmwaretest"
)

// folderRequest asks for the extent of a base by its descriptor's path.
func folderRequest(t *testing.T, s *vmwaretest.Server, descriptor, datacenter string) *http.Request {
	t.Helper()
	var p object.DatastorePath
	p.FromString(descriptor)
	u := *s.URL
	u.Path = "/folder/" + strings.TrimSuffix(p.Path, ".vmdk") + "-flat.vmdk"
	if datacenter == "" {
		datacenter = "DC0"
	}
	u.RawQuery = url.Values{"dcPath": {datacenter}, "dsName": {p.Datastore}}.Encode()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withCookie adds a session's cookie.
func withCookie(r *http.Request, s *vmwaretest.Server, c *govmomi.Client) *http.Request {
	for _, cookie := range c.Client.Client.Jar.Cookies(s.URL) {
		r.AddCookie(cookie)
	}
	return r
}

// fetch is what comes of a request, with the certificate checked.
func fetch(t *testing.T, c *govmomi.Client, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	response, err := (&http.Client{Transport: c.Client.Client.DefaultTransport()}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func download(t *testing.T, s *vmwaretest.Server, c *govmomi.Client, descriptor, datacenter string) []byte {
	t.Helper()
	response, body := fetch(t, c, withCookie(folderRequest(t, s, descriptor, datacenter), s, c))
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", descriptor, response.Status)
	}
	return body
}

func TestTheFolderAsksWhoReads(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	status := func(r *http.Request) int {
		response, _ := fetch(t, c, r)
		return response.StatusCode
	}
	request := func() *http.Request { return folderRequest(t, s, v.Disks[0].Path, "") }
	if got := status(request()); got != http.StatusUnauthorized {
		t.Errorf("without a cookie: %d", got)
	}
	basic := request()
	basic.SetBasicAuth(s.User, s.Password)
	if got := status(basic); got != http.StatusOK {
		t.Errorf("with the password: %d", got)
	}
	basic.SetBasicAuth(s.User, "wrong")
	if got := status(basic); got != http.StatusUnauthorized {
		t.Errorf("with a wrong password: %d", got)
	}
	ranged := withCookie(request(), s, c)
	ranged.Header.Set("Range", "bytes=10-19")
	response, part := fetch(t, c, ranged)
	if response.StatusCode != http.StatusPartialContent || string(part) != string(content[10:20]) || response.Header.Get("Content-Range") != "bytes 10-19/1048576" {
		t.Errorf("a range: %s, %q, %s", response.Status, part, response.Header.Get("Content-Range"))
	}
	if got := status(withCookie(folderRequest(t, s, v.Disks[0].Path, "DC1"), s, c)); got != http.StatusNotFound {
		t.Errorf("of another datacenter: %d", got)
	}
	killed := withCookie(request(), s, c)
	s.KillSessions(t)
	if got := status(killed); got != http.StatusUnauthorized {
		t.Errorf("with the cookie of a session that was killed: %d", got)
	}
}

func TestARunningVMLocksItsDisksButNotItsFrozenOnes(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	r := withCookie(folderRequest(t, s, v.Disks[0].Path, ""), s, c)
	if response, _ := fetch(t, c, r); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("the disk of a running VM: %s", response.Status)
	}
	snapshot(t, c, v.Ref, "one")
	if response, _ := fetch(t, c, r); response.StatusCode != http.StatusOK {
		t.Errorf("the frozen base of a running VM: %s", response.Status)
	}
}

// A chain that is read file by file is the disk as the guest left it.
func TestDeltasHaveTheSectorsThatDiffer(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 5<<20+512)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	write := func(off int, text string) {
		s.GuestWrite(t, v.Ref, v.Disks[0].Key, int64(off), []byte(text))
		copy(content[off:], text)
	}
	snapshot(t, c, v.Ref, "one")
	write(511, "two sectors")
	snapshot(t, c, v.Ref, "two")
	write(5<<20, "the last one")
	write(3<<20, "where there was nothing")
	dir := t.TempDir()
	for _, name := range []string{"web01.vmdk", "web01-flat.vmdk", "web01-000001.vmdk", "web01-000001-delta.vmdk", "web01-000002.vmdk", "web01-000002-delta.vmdk"} {
		r := withCookie(folderRequest(t, s, v.Disks[0].Path, ""), s, c)
		r.URL.Path = "/folder/web01/" + name
		response, body := fetch(t, c, r)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", name, response.Status)
		}
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	readByUs(t, filepath.Join(dir, "web01-000002.vmdk"), int64(len(content)))
	readByQEMU(t, filepath.Join(dir, "web01-000002.vmdk"), content)
}
