package api

import (
	"strings"
	"testing"
)

func TestSecretsAreKeptAndNeverTold(t *testing.T) {
	h := newHarness(t, done)
	bytes := []string{"Content-Type", "application/octet-stream"}
	h.want(t, "operator", "PUT", "/secrets/files-luks", `{"value":"first"}`, 204, "")
	h.want(t, "operator", "PUT", "/secrets/files-luks", "\x00second\xff", 204, "", bytes...)
	kept, err := h.secrets.Open(t.Context(), "files-luks")
	if err != nil || string(kept) != "\x00second\xff" {
		t.Errorf("kept is %q, %v", []byte(kept), err)
	}
	a := h.want(t, "operator", "GET", "/secrets", nil, 200, "")
	if string(a.body) != `{"items":[{"name":"files-luks"}]}`+"\n" {
		t.Errorf("the list is %s", a.body)
	}
	h.want(t, "operator", "GET", "/secrets/files-luks", nil, 404, "no-such-path")
	h.want(t, "operator", "PUT", "/secrets/large", strings.Repeat("x", 64<<10+1), 422, "bad-input", bytes...)
	h.want(t, "operator", "PUT", "/secrets/none", `{"value":""}`, 400, "bad-request")
	h.want(t, "operator", "PUT", "/secrets/Bad", `{"value":"x"}`, 400, "bad-request")
	h.want(t, "viewer", "PUT", "/secrets/mine", `{"value":"x"}`, 403, "forbidden")
	h.want(t, "operator", "DELETE", "/secrets/files-luks", nil, 204, "")
	h.want(t, "operator", "DELETE", "/secrets/files-luks", nil, 404, "not-there")
}
