package api

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/fleet/fleettest"
	"hyper2kvm/fixers/guest"
)

// smallOVA puts an OVA into a storage that has what a download needs, and a text as disk.
func smallOVA(t *testing.T, h *harness) {
	t.Helper()
	descriptor, disk := `<Envelope xmlns:ovf="x"><References><File ovf:href="d.vmdk"/></References><VirtualSystem><ProductSection>`, "KDMV "+strings.Repeat("disk ", 1000)
	for _, key := range []string{"hostname", "join-token", "settings"} {
		descriptor += `<Property ovf:key="` + key + `" ovf:value=""/>`
	}
	descriptor += `</ProductSection></VirtualSystem></Envelope>`
	manifest := fmt.Sprintf("SHA256(a.ovf)= %x\nSHA256(d.vmdk)= %x\n", sha256.Sum256([]byte(descriptor)), sha256.Sum256([]byte(disk)))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"a.ovf", descriptor}, {"a.mf", manifest}, {"d.vmdk", disk}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.folder, "vmware", "small.ova"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// downloadOf makes a download, and waits until it is ready.
func downloadOf(t *testing.T, h *harness, body string) model.Download {
	t.Helper()
	smallOVA(t, h)
	var d model.Download
	h.want(t, "socket", "POST", "/appliance/downloads", body, 201, "").into(t, &d)
	for limit := time.Now().Add(time.Minute); d.State == model.DownloadStatePreparing && time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		h.want(t, "socket", "GET", "/appliance/downloads/"+d.ID, nil, 200, "").into(t, &d)
	}
	if d.State != model.DownloadStateReady {
		t.Fatalf("it is %s: %s", d.State, d.Detail)
	}
	return d
}

const aDownload = `{"form":"ova","settings":{"hostname":"mover2","settings":"log: {level: debug} # a-secret-word"},"base":{"storage":"vmware","path":"small.ova"}}`

func aboutDownload(t *testing.T, h *harness) props {
	d := downloadOf(t, h, aDownload)
	return props{params: map[string]string{"download": d.ID, "file": d.Name}}
}

// TestADownloadIsFetchedInParts, by HEAD, Range and If-Range, as curl does.
func TestADownloadIsFetchedInParts(t *testing.T) {
	h := newHarness(t, done)
	d := downloadOf(t, h, aDownload)
	path := strings.TrimPrefix(d.Href, base)
	all := h.want(t, "socket", "GET", path, nil, 200, "")
	if int64(len(all.body)) != d.Size || all.header.Get("ETag") != d.Etag || all.header.Get("Accept-Ranges") != "bytes" || !strings.Contains(all.header.Get("Content-Disposition"), "mover2.ova") {
		t.Errorf("%d bytes, %v", len(all.body), all.header)
	}
	if head := h.want(t, "socket", "HEAD", path, nil, 200, ""); head.header.Get("Content-Length") != fmt.Sprint(d.Size) || len(head.body) != 0 {
		t.Errorf("HEAD: %v", head.header)
	}
	part := h.want(t, "socket", "GET", path, nil, 206, "", "Range", "bytes=1000-1999", "If-Range", d.Etag)
	if !bytes.Equal(part.body, all.body[1000:2000]) || part.header.Get("Content-Range") != fmt.Sprintf("bytes 1000-1999/%d", d.Size) {
		t.Errorf("a part has %d bytes, %v", len(part.body), part.header)
	}
	if other := h.want(t, "socket", "GET", path, nil, 200, "", "Range", "bytes=1000-", "If-Range", `"other"`); int64(len(other.body)) != d.Size {
		t.Error("a part of another one is sent")
	}
	h.want(t, "socket", "GET", path, nil, 416, "no-such-range", "Range", "bytes=99999999-")
	h.want(t, "socket", "GET", path+"x", nil, 404, "no-such-download")
}

func TestADownloadsSecretsAreInItAlone(t *testing.T) {
	h := newHarness(t, done)
	d := downloadOf(t, h, aDownload)
	path := strings.TrimPrefix(d.Href, base)
	h.want(t, "socket", "GET", path, nil, 200, "")
	for _, c := range []string{"", "viewer", "operator", "admin"} { // a token needs access:write
		want := 403
		if c == "" {
			want = 401
		}
		h.want(t, c, "GET", path, nil, want, "")
		h.want(t, c, "POST", "/appliance/downloads", aDownload, want, "")
	}
	shown := string(h.want(t, "socket", "GET", "/appliance/downloads", nil, 200, "").body) + string(h.want(t, "socket", "GET", "/audit", nil, 200, "").body) + h.log.String()
	if strings.Contains(shown, "a-secret-word") || !strings.Contains(shown, `"makeDownload"`) {
		t.Errorf("shown is %s", shown)
	}
	h.want(t, "socket", "POST", "/appliance/downloads", `{"form":"ova","settings":{"address":"a-secret-word"},"base":{"storage":"vmware","path":"small.ova"}}`, 422, "bad-settings")
	h.want(t, "socket", "POST", "/appliance/downloads", `{"form":"raw","settings":{"hostname":"a"}}`, 422, "bad-base")
	h.stopped.Store(time.Now().Add(25 * time.Hour).UnixNano())
	h.want(t, "socket", "GET", path, nil, 410, "over")
}

// TestADownloadJoinsOnce: its invitation is its own, and ends it.
func TestADownloadJoinsOnce(t *testing.T) {
	hub := fleettest.New(t, t.TempDir(), "k3v7q2mzt5aw")
	h := newHarness(t, done, func(c *Config) { c.Fleet = hub.Registry })
	d := downloadOf(t, h, `{"form":"ova","join":true,"addresses":["192.0.2.7:8443"],"settings":{"hostname":"mover2"},"seconds":3600,"base":{"storage":"vmware","path":"small.ova"}}`)
	path := strings.TrimPrefix(d.Href, base)
	image := h.want(t, "socket", "GET", path, nil, 200, "")
	if !bytes.Contains(image.body, []byte("h2kjoin_")) || strings.Contains(h.log.String(), "h2kjoin_") {
		t.Error("the token is not in it, or elsewhere")
	}
	var list struct{ Items []model.Invitation }
	h.want(t, "socket", "GET", "/appliances/invitations", nil, 200, "").into(t, &list)
	if len(list.Items) != 1 || list.Items[0].ID != d.Invitation || list.Items[0].Expires.Sub(list.Items[0].Created) != time.Hour {
		t.Fatalf("invitations: %+v", list)
	}
	h.want(t, "socket", "POST", "/appliance/downloads", `{"form":"ova","join":true,"settings":{"address":"wrong"}}`, 422, "bad-settings")
	h.want(t, "socket", "POST", "/appliance/downloads", `{"form":"ova","join":true,"settings":{"join-token":"x"}}`, 422, "bad-input")
	h.want(t, "socket", "GET", "/appliances/invitations", nil, 200, "").into(t, &list)
	if len(list.Items) != 1 {
		t.Errorf("one for what cannot be made is left: %+v", list)
	}
	h.want(t, "socket", "DELETE", "/appliances/invitations/"+d.Invitation, nil, 204, "")
	h.want(t, "socket", "GET", path, nil, 410, "over")
	used := downloadOf(t, h, `{"form":"ova","join":true,"base":{"storage":"vmware","path":"small.ova"}}`)
	path = strings.TrimPrefix(used.Href, base)
	token := regexp.MustCompile(`h2kjoin_[\w.-]+`).Find(h.want(t, "socket", "GET", path, nil, 200, "").body)
	hub.JoinedWith(t, t.TempDir(), "b7d2mq9xk4tz", guest.Secret(token))
	if over := h.want(t, "socket", "GET", path, nil, 410, "over"); !strings.Contains(string(over.body), "has joined with its token") {
		t.Errorf("it is over: %s", over.body)
	}
}
