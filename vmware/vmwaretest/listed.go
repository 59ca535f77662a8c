package vmwaretest

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25"
)

// listed fails the test if a client has made a call that docs/vsphere-calls.md does not
// have. That page is made of the table in package vmware, which cannot be imported here:
// its tests import this package.
func (s *Server) listed(t testing.TB) {
	t.Helper()
	rows, err := listedCalls()
	if err != nil {
		t.Error(err)
	}
	for _, call := range unlisted(s.asked(), rows) {
		t.Errorf("%s was called, and docs/vsphere-calls.md does not have it: put it into vmware/calls.go with its privileges, and run make generate", call)
	}
}

// listedCalls are the first column of the page's tables.
func listedCalls() (rows []string, err error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return nil, fmt.Errorf("where this package's source lies is not known")
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "docs", "vsphere-calls.md"))
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			rows = append(rows, strings.TrimSpace(cells[1]))
		}
	}
	return rows, err
}

// asked are the calls that clients have made: methods of the API, and other requests by
// HTTP method and path.
func (s *Server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for call := range s.calls {
		all = append(all, call)
	}
	for request := range s.requests {
		all = append(all, request)
	}
	return all
}

// heard notes a request that is no call of the API, which dispatch counts.
func (s *Server) heard(r *http.Request) {
	if r.URL.Path == vim25.Path {
		return
	}
	path := r.URL.Path
	for _, files := range []string{folderPrefix, nfcPrefix} {
		if strings.HasPrefix(path, files) { // one call, whatever the file
			path = strings.TrimSuffix(files, "/")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[r.Method+" "+path] = true
}

// unlisted are those of calls that no row has, sorted. A row with a path is for what lies
// below it, too.
func unlisted(calls, rows []string) (strange []string) {
	for _, call := range calls {
		known := slices.ContainsFunc(rows, func(row string) bool {
			return call == row || strings.Contains(row, "/") && strings.HasPrefix(call, row+"/")
		})
		if !known {
			strange = append(strange, call)
		}
	}
	slices.SortFunc(strange, cmp.Compare[string])
	return strange
}
