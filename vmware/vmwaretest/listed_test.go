package vmwaretest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// A client of whatever package is seen, with calls of the API and with others.
func TestACallThatTheTableDoesNotHaveIsSeen(t *testing.T) {
	rows, err := listedCalls()
	if err != nil || !slices.Contains(rows, "QueryChangedDiskAreas") {
		t.Fatalf("the table is %q, %v", rows, err)
	}
	s := Start(t, Options{Anyone: true})
	through := soap.NewClient(s.URL, true)
	client, err := vim25.NewClient(context.Background(), through)
	if err != nil {
		t.Fatal(err)
	}
	if got := unlisted(s.asked(), rows); len(got) > 0 {
		t.Errorf("unlisted are %q, before anything was called that is", got)
	}
	if _, err := methods.QueryOptions(t.Context(), client, &types.QueryOptions{This: *client.ServiceContent.Setting}); err == nil {
		t.Error("who has not logged in may ask")
	}
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodPut, "/folder/web01/web01.vmdk", nil), httptest.NewRequest(http.MethodGet, "/folder/web01/web01.vmdk", nil),
		httptest.NewRequest(http.MethodGet, "/rest/com/vmware/cis/tagging/tag/1", nil), httptest.NewRequest(http.MethodGet, "/rest/com/vmware/content/library", nil),
	} {
		s.heard(r)
	}
	want := []string{"GET /rest/com/vmware/content/library", "PUT /folder", "QueryOptions"}
	if got := unlisted(s.asked(), rows); !slices.Equal(got, want) {
		t.Errorf("unlisted are %q, want %q", got, want)
	}
}
