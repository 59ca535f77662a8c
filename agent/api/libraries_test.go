package api

import (
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/agent/api/model"
)

// TestALibraryIsUploadedInParts, and is refused, as what is sent is no library: what is
// one is tested where it is looked at.
func TestALibraryIsUploadedInParts(t *testing.T) {
	h := newHarness(t, done)
	const whole = "0123456789"
	h.want(t, "operator", "PUT", "/libraries/vddk", whole[:4], 403, "forbidden", bytesOf(whole, 0, 4)...)
	h.want(t, "admin", "PUT", "/libraries/other", whole[:4], 404, "not-there", bytesOf(whole, 0, 4)...)
	h.want(t, "admin", "PUT", "/libraries/vddk", whole[:4], 202, "", bytesOf(whole, 0, 4)...)
	if a := h.want(t, "admin", "HEAD", "/libraries/vddk/upload", nil, 200, ""); a.header.Get("Upload-Offset") != "4" {
		t.Errorf("it is at %s", a.header.Get("Upload-Offset"))
	}
	h.want(t, "admin", "DELETE", "/libraries/vddk/upload", nil, 204, "")
	h.want(t, "admin", "GET", "/libraries/vddk/upload", nil, 404, "not-there")
	h.want(t, "admin", "PUT", "/libraries/vddk", whole[:4], 202, "", bytesOf(whole, 0, 4)...)
	h.want(t, "admin", "PUT", "/libraries/vddk", whole[4:], 422, "bad-file", bytesOf(whole, 4, 6)...)
	h.want(t, "admin", "GET", "/libraries/vddk/upload", nil, 404, "not-there")
	h.want(t, "admin", "PUT", "/libraries/vddk", "0", 400, "bad-request", "Content-Range", "bytes 0-0/4294967296")
	h.want(t, "admin", "DELETE", "/libraries/vddk", nil, 404, "not-there")
	var list struct{ Items []model.Library }
	if h.want(t, "viewer", "GET", "/libraries", nil, 200, "").into(t, &list); len(list.Items) != 0 {
		t.Errorf("there are %+v", list.Items)
	}
	if left, err := os.ReadDir(filepath.Join(h.folder, "state", "libraries", "incoming")); err != nil || len(left) != 0 {
		t.Errorf("left is %v, %v", left, err)
	}
}
