package vmwaretest

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// folderPrefix is where the files of datastores are: /folder/DIR/FILE?dcPath=DC&dsName=DS.
//
// Source: vSphere Web Services SDK Programming Guide, "Access to Datastores over HTTP".
const folderPrefix = "/folder/"

// folderFiles serves the files of datastores to those who have a session or log in.
func (s *Server) folderFiles(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if ds := s.datastoreAsked(r); ds != nil && !s.mayRead(user, ds.Self) {
		http.Error(w, "you may not", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.Model.Service.ServeDatastore(w, r)
		return
	}
	file, ok := s.folderFile(r)
	if !ok {
		http.NotFound(w, r)
		return
	}
	if s.locked(file) {
		http.Error(w, "the file is locked", http.StatusInternalServerError)
		return
	}
	if err := s.refresh(file); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	serveFile(w, r, file)
}

// Refresh writes the extents of deltas to which guests have written, for who reads the
// files of datastores in another way than from the server.
func (s *Server) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []error
	for _, l := range s.layers {
		if l.parent != nil {
			failed = append(failed, l.writeExtent())
		}
	}
	return errors.Join(failed...)
}

// refresh writes a delta's extent anew, if a guest has written to the delta.
func (s *Server) refresh(file string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.layers {
		if l.extent() == file {
			return l.writeExtent()
		}
	}
	return nil
}

// user is who asks, by the cookie of a session or by a name and a password.
func (s *Server) user(r *http.Request) (string, bool) {
	if name, password, ok := r.BasicAuth(); ok {
		return name, s.knows(name, password)
	}
	c, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return "", false
	}
	session, ok := s.session(strings.Trim(c.Value, `"`))
	return session.UserName, ok
}

// mayRead tells whether a user may read files of a datastore.
//
// Source: vSphere Security, "Datastore Privileges": low level file operations.
func (s *Server) mayRead(user string, ds types.ManagedObjectReference) bool {
	return s.may(user, ds, "Datastore.Browse") && s.may(user, ds, "Datastore.FileManagement")
}

func (s *Server) datastoreAsked(r *http.Request) *simulator.Datastore {
	q := r.URL.Query()
	return s.datastore(q.Get("dcPath"), q.Get("dsName"))
}

// folderFile is the file of this machine that is asked for.
func (s *Server) folderFile(r *http.Request) (string, bool) {
	ds := s.datastoreAsked(r)
	if ds == nil {
		return "", false
	}
	file := filepath.Join(ds.Summary.Url, filepath.Clean("/"+strings.TrimPrefix(r.URL.Path, folderPrefix)))
	info, err := os.Stat(file)
	return file, err == nil && info.Mode().IsRegular()
}

// locked tells whether a file is the extent that a running VM writes to: its host lets
// nobody else read it.
func (s *Server) locked(file string) bool {
	ctx := s.context()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range ctx.Map.All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue
		}
		for _, d := range disksOf(vm.Config.Hardware.Device) {
			if l := s.known(vm, d); l != nil && l.extent() == file {
				return true
			}
		}
	}
	return false
}

func serveFile(w http.ResponseWriter, r *http.Request, file string) {
	f, err := os.Open(file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}
