package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/upload"
)

// bytesOf are headers of a part of a content.
func bytesOf(whole string, first, length int) []string {
	sum := sha256.Sum256([]byte(whole))
	return []string{"Content-Type", "application/octet-stream", "Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, len(whole)), "Repr-Digest", upload.Digest(sum[:])}
}

func TestADiskIsUploadedInParts(t *testing.T) {
	h := newHarness(t, done)
	const at, whole = "/storages/vmware/uploads/web01/web01.vmdk", "0123456789"
	h.want(t, "operator", "PUT", at, whole[:4], 202, "", bytesOf(whole, 0, 4)...)
	if a := h.want(t, "operator", "HEAD", at, nil, 200, ""); a.header.Get("Upload-Offset") != "4" {
		t.Errorf("it is at %s", a.header.Get("Upload-Offset"))
	}
	if a := h.want(t, "operator", "PUT", at, whole[7:], 409, "wrong-offset", bytesOf(whole, 7, 3)...); a.header.Get("Upload-Offset") != "4" {
		t.Errorf("a refusal tells %s", a.header.Get("Upload-Offset"))
	}
	var list struct{ Items []model.Upload }
	if h.want(t, "viewer", "GET", "/storages/vmware/uploads", nil, 200, "").into(t, &list); len(list.Items) != 1 || list.Items[0].Path != "web01/web01.vmdk" || list.Items[0].By != "operator" {
		t.Errorf("listed are %+v", list.Items)
	}
	a := h.want(t, "operator", "PUT", at, whole[4:], 201, "", bytesOf(whole, 4, 6)...)
	tag, file := a.header.Get("ETag"), strings.TrimPrefix(a.header.Get("Location"), base)
	if a := h.want(t, "operator", "GET", file, nil, 206, "", "Range", "bytes=3-5"); string(a.body) != "345" || a.header.Get("ETag") != tag {
		t.Errorf("read is %q of %s, want of %s", a.body, a.header.Get("ETag"), tag)
	}
	h.want(t, "operator", "HEAD", at, nil, 404, "")
	h.want(t, "operator", "PUT", at, "new", 409, "exists", bytesOf("new", 0, 3)...)
	h.want(t, "operator", "PUT", at, "new", 412, "changed", append(bytesOf("new", 0, 3), "If-Match", `"0-0"`)...)
	h.want(t, "operator", "PUT", at, "new", 201, "", append(bytesOf("new", 0, 3), "If-Match", tag)...)
	if a := h.want(t, "operator", "GET", file, nil, 200, ""); string(a.body) != "new" {
		t.Errorf("replaced by %q", a.body)
	}
	if n := h.recorded(t, "uploadPart"); n != "done refused refused done refused" {
		t.Errorf("recorded is %s", n)
	}
}

// recorded are the outcomes of an operation in the audit log, the newest first.
func (h *harness) recorded(t *testing.T, operation string) string {
	t.Helper()
	var log struct{ Items []model.AuditEntry }
	h.ask(t, "admin", "GET", "/audit", nil).into(t, &log)
	var outcomes []string
	for _, e := range log.Items {
		if e.Action == operation {
			outcomes = append(outcomes, string(e.Outcome))
		}
	}
	return strings.Join(outcomes, " ")
}

func TestUploadsThatCannotBe(t *testing.T) {
	h := newHarness(t, done)
	if err := os.Symlink("/tmp", filepath.Join(h.folder, "vmware", "out")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		role, path string
		status     int
		code       string
		headers    []string
	}{
		{"viewer", "vmware/uploads/a", 403, "forbidden", bytesOf("abc", 0, 3)},
		{"operator", "kvm/uploads/a", 422, "bad-place", bytesOf("abc", 0, 3)},
		{"operator", "none/uploads/a", 422, "bad-place", bytesOf("abc", 0, 3)},
		{"operator", "vmware/uploads/none/a", 404, "not-there", bytesOf("abc", 0, 3)},
		{"operator", "vmware/uploads/out/a", 422, "bad-place", bytesOf("abc", 0, 3)},
		{"operator", "vmware/uploads/web01/..%2F..%2Fa", 422, "bad-place", bytesOf("abc", 0, 3)},
		{"operator", "vmware/uploads/a", 422, "wrong-digest", bytesOf("abd", 0, 3)},
		{"operator", "vmware/uploads/a", 400, "bad-request", []string{"Content-Range", "bytes 0-2/3"}},
		{"operator", "vmware/uploads/a", 400, "bad-request", bytesOf("abcd", 0, 4)},
		{"operator", "vmware/uploads/a", 400, "bad-request", []string{"Content-Range", "bytes 0-2/*"}},
		{"operator", "vmware/uploads/a", 400, "bad-request", []string{"Repr-Digest", "sha-256=:YQ==:"}},
		{"operator", "vmware/uploads/a", 507, "full", bytesOf("abc", 0, 3)[:2:2]},
	} {
		headers := c.headers
		if c.code == "full" {
			headers = append(headers, "Content-Range", fmt.Sprintf("bytes 0-2/%d", int64(upload.MaxSize)))
		}
		h.want(t, c.role, "PUT", "/storages/"+c.path, "abc", c.status, c.code, headers...)
	}
	if list, err := os.ReadDir(filepath.Join(h.folder, "vmware")); err != nil || len(list) != 2 {
		t.Errorf("left is %v, %v", list, err)
	}
	h.want(t, "operator", "PUT", "/storages/vmware/uploads/a", "ab", 202, "", bytesOf("abc", 0, 2)...)
	h.want(t, "viewer", "DELETE", "/storages/vmware/uploads/a", nil, 403, "forbidden")
	h.want(t, "operator", "DELETE", "/storages/vmware/uploads/a", nil, 204, "")
	h.want(t, "operator", "DELETE", "/storages/vmware/uploads/a", nil, 404, "not-there")
}

func TestStoragesAreListed(t *testing.T) {
	h := newHarness(t, done)
	folder := filepath.Join(h.folder, "vmware")
	for _, name := range []string{"b.vmdk", "c d.vmdk", "web01/web01.vmx", "bad\xff.vmdk"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("0123456789"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"in": "web01", "out": "/etc", "passwd": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for cursor, next := "", "?"; next != ""; {
		var page model.StorageFileList
		h.want(t, "viewer", "GET", "/storages/vmware/files?limit=2&cursor="+cursor, nil, 200, "").into(t, &page)
		for _, f := range page.Items {
			names = append(names, fmt.Sprintf("%s %s %d", f.Name, f.Kind, f.Size))
		}
		cursor = strings.ReplaceAll(page.Next, " ", "%20")
		next = page.Next
	}
	if got := strings.Join(names, ", "); got != "b.vmdk file 10, c d.vmdk file 10, in link 0, out link 0, passwd link 0, web01 folder 0" {
		t.Errorf("listed are %s", got)
	}
	var page model.StorageFileList
	if h.want(t, "viewer", "GET", "/storages/vmware/files?path=in", nil, 200, "").into(t, &page); len(page.Items) != 1 || page.Items[0].Name != "web01.vmx" {
		t.Errorf("through a link that stays: %+v", page.Items)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"vmware/files?path=out": {422, "bad-place"}, "vmware/files?path=../kvm": {422, "bad-place"}, "vmware/files?path=none": {404, "not-there"},
		"vmware/files?path=b.vmdk": {404, "not-there"}, "none/files": {422, "bad-place"},
		"vmware/files/passwd": {422, "bad-place"}, "vmware/files/out/passwd": {422, "bad-place"}, "vmware/files/web01": {404, "not-there"},
		"vmware/files/..%2Fkvm": {422, "bad-place"}, "vmware/files/none": {404, "not-there"},
	} {
		h.want(t, "operator", "GET", "/storages/"+path, nil, want.status, want.code)
	}
	h.want(t, "viewer", "GET", "/storages/vmware/files/b.vmdk", nil, 403, "forbidden")
	for _, path := range []string{"c%20d.vmdk", "in/web01.vmx", "in%2Fweb01.vmx"} {
		if a := h.want(t, "operator", "GET", "/storages/vmware/files/"+path, nil, 200, ""); string(a.body) != "0123456789" {
			t.Errorf("%s is %q", path, a.body)
		}
	}
}

// dripping is a body that comes in pieces, with a pause before each.
type dripping struct {
	left, piece int
	pause       time.Duration
}

func (d *dripping) Read(b []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	n := min(d.left, d.piece, len(b))
	clear(b[:n])
	d.left -= n
	return n, nil
}

// TestAnUploadMayTakeLongerThanARequest: as long as enough of it comes.
func TestAnUploadMayTakeLongerThanARequest(t *testing.T) {
	h := newHarness(t, done)
	impatient := httptest.NewUnstartedServer(h.Server.Config.Handler)
	impatient.Config.ReadTimeout, impatient.Config.WriteTimeout = time.Second, time.Second
	impatient.StartTLS()
	defer impatient.Close()
	whole := make([]byte, 20*pace)
	r, err := http.NewRequestWithContext(t.Context(), "PUT", impatient.URL+base+"/storages/vmware/uploads/slow.raw", &dripping{len(whole), pace, 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(whole))
	r.Header.Set("Authorization", "Bearer "+h.tokens["operator"])
	sum := sha256.Sum256(whole)
	r.Header.Set("Repr-Digest", upload.Digest(sum[:]))
	reply, err := impatient.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if text, err := io.ReadAll(reply.Body); err != nil || reply.StatusCode != 201 {
		t.Errorf("it is answered with %d, %v: %s", reply.StatusCode, err, text)
	}
}

// deadlines notes those that it is given.
type deadlines struct {
	http.ResponseWriter
	reads int
}

func (d *deadlines) SetReadDeadline(time.Time) error  { d.reads++; return nil }
func (d *deadlines) SetWriteDeadline(time.Time) error { return nil }

// TestASlowClientIsGivenTimeForWhatItSends: not for each byte.
func TestASlowClientIsGivenTimeForWhatItSends(t *testing.T) {
	h := newHarness(t, done)
	d := &deadlines{}
	in := &arriving{server: &server{Config: Config{Gate: h.gate}}, ctx: t.Context(), body: &dripping{left: 3*pace + 1000, piece: 100}, control: http.NewResponseController(d)}
	if n, err := io.Copy(io.Discard, in); err != nil || n != 3*pace+1000 || d.reads != 3 {
		t.Errorf("%d bytes, %v: it was given time %d times", n, err, d.reads)
	}
}

// TestWhoseAccessEndsCannotSendMore: the token is revoked while its request goes on.
func TestWhoseAccessEndsCannotSendMore(t *testing.T) {
	h := newHarness(t, done)
	p, err := h.gate.Token(t.Context(), netip.Addr{}, h.tokens["operator"])
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(t.Context(), principalKey{}, p)
	in := &arriving{server: &server{Config: Config{Gate: h.gate}}, ctx: ctx, body: &dripping{left: 9 * pace, piece: pace}, control: http.NewResponseController(&deadlines{}), checked: time.Now().Add(-2 * recheck)}
	if _, err := io.ReadFull(in, make([]byte, 2*pace)); err != nil {
		t.Fatalf("while it may: %v", err)
	}
	h.want(t, "socket", "DELETE", "/tokens/"+h.tokenID(t, "operator"), nil, 204, "")
	in.checked = time.Now().Add(-2 * recheck)
	if _, err := io.ReadAll(in); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("then it ends with %v", err)
	}
}

// tokenID is a token's by its name.
func (h *harness) tokenID(t *testing.T, name string) string {
	t.Helper()
	var list struct{ Items []model.Token }
	h.ask(t, "admin", "GET", "/tokens", nil).into(t, &list)
	for _, k := range list.Items {
		if k.Name == name {
			return k.ID
		}
	}
	t.Fatalf("there is no token %s: %+v", name, list.Items)
	return ""
}
