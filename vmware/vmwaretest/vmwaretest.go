// Package vmwaretest is a vCenter or an ESXi host for tests: govmomi's simulator over
// TLS, and what it lacks. The disks of its VMs have bytes, their snapshots freeze them,
// change IDs and QueryChangedDiskAreas tell what a guest wrote since, and datastores ask
// who reads them.
//
// Arranger: the test itself, which reaches the server through Client and the methods of
// Server. It needs no session, may do everything, and meets no faults. Layer: what a
// datastore has under one descriptor of a disk's chain.
//
// What passes here asks as the protocol says. It does not prove that a real server
// answers so. Of these things real servers are known to differ, or it is not known: the
// order and the texts of faults, and the status of a file that is locked; what a user
// who lacks System.View does not see; user names, which a vCenter gives back with its
// domain in front; how fast anything is; which blocks a host finds allocated, and what
// CBT loses; the form of delta extents on VMFS 6; leases whose sessions end; a linked
// clone that is off, which keeps nobody from removing its snapshot. Nothing here has to
// do with VDDK.
package vmwaretest

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// Options are what a server is to be like. The zero value is a vCenter with a
// datacenter, a cluster of two hosts, a datastore and no VMs.
type Options struct {
	ESX        bool
	User       string   // administrator@vsphere.local, on ESXi root
	Password   string   // secret
	Datastores []string // by name, mounted by every host; datastore1 if there are none

	SessionTimeout time.Duration // idle sessions end after it, and before twice of it; zero: never
	LeaseTimeout   time.Duration // leases end so long after their last sign of life; five minutes if zero
	MaxExtents     int           // of an answer to QueryChangedDiskAreas; 2000 if zero

	// Anyone: clients are no part of this program, and call what it does not. Else a call
	// that the docs' table of calls does not have fails the test.
	Anyone bool

	// Model is the inventory to begin with, instead of the zero value's.
	Model *simulator.Model
}

// Server is a running server. Any number of goroutines may use it.
type Server struct {
	URL              *url.URL // of its API, without credentials
	User, Password   string
	ThumbprintSHA1   string // of its certificate
	ThumbprintSHA256 string
	CAFile           string // its certificate
	// Client is the arranger's way in.
	Client *vim25.Client
	Model  *simulator.Model
	// OnAttach and OnDetach are called for each disk that comes to a VM or goes, when
	// it has come or gone and before that task ends. They are set before there are clients.
	OnAttach, OnDetach func(Attachment)
	// OnRequest is called for each HTTP request before it is served. One that is lost is
	// not served, and its connection breaks. It is set before there are clients.
	OnRequest func(*http.Request) (lost bool)

	options Options
	server  *simulator.Server
	folder  string // of its files
	closed  chan struct{}

	mu        sync.Mutex        // of what follows; taken after the simulator's own locks
	layers    map[string]*layer // by the files of their descriptors
	became    map[string]*layer // what merged layers are now, while a VM is consolidated
	tracked   map[diskID]*tracked
	raws      int
	madeVMs   map[types.ManagedObjectReference]VM
	destroyed []layer                               // by clients
	initial   map[types.ManagedObjectReference]bool // VMs of the model
	users     map[string]string
	grants    map[string]map[types.ManagedObjectReference]grant
	calls     map[string]int
	requests  map[string]bool   // that are no calls of the API
	leases    map[string]*lease // by their MoRefs
	weather   []*Weather
	troubles  []*Trouble
	made      map[types.ManagedObjectReference]bool // snapshots of the arranger
}

// Start starts a server on this machine. It ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{options: o.filled(), folder: t.TempDir(), closed: make(chan struct{}),
		layers: map[string]*layer{}, became: map[string]*layer{}, tracked: map[diskID]*tracked{}, leases: map[string]*lease{}, calls: map[string]int{}, requests: map[string]bool{},
		initial: map[types.ManagedObjectReference]bool{}, users: map[string]string{}, grants: map[string]map[types.ManagedObjectReference]grant{},
		madeVMs: map[types.ManagedObjectReference]VM{}, made: map[types.ManagedObjectReference]bool{},
	}
	if !o.Anyone {
		t.Cleanup(func() { s.listed(t) })
	}
	s.User, s.Password, s.Model = s.options.User, s.options.Password, s.options.Model
	if err := s.Model.Create(); err != nil {
		t.Fatal("create the inventory: ", err)
	}
	t.Cleanup(s.Model.Remove)
	client, err := vim25.NewClient(context.Background(), s.Model.Service)
	if err != nil {
		t.Fatal(err)
	}
	s.Client = client
	for _, name := range s.options.Datastores {
		s.AddDatastore(t, name)
	}
	for _, e := range s.entities("VirtualMachine") {
		s.initial[e.Reference()] = true
	}
	s.serve(t)
	return s
}

// filled has the defaults of what is not said.
func (o Options) filled() Options {
	if o.User == "" {
		o.User = "administrator@vsphere.local"
		if o.ESX {
			o.User = "root"
		}
	}
	if o.Password == "" {
		o.Password = "secret"
	}
	if len(o.Datastores) == 0 {
		o.Datastores = []string{"datastore1"}
	}
	o.LeaseTimeout = cmp.Or(o.LeaseTimeout, 5*time.Minute)
	o.MaxExtents = cmp.Or(o.MaxExtents, 2000)
	if o.Model == nil {
		o.Model = emptyModel(o.ESX)
	}
	return o
}

// emptyModel is an inventory without VMs and datastores.
func emptyModel(esx bool) *simulator.Model {
	m := simulator.VPX()
	m.Host, m.ClusterHost = 0, 2
	if esx {
		m = simulator.ESX()
	}
	m.Machine, m.Datastore = 0, 0
	return m
}

// serve begins to listen.
func (s *Server) serve(t testing.TB) {
	t.Helper()
	config, err := selfSigned()
	if err != nil {
		t.Fatal("make a certificate: ", err)
	}
	service := s.Model.Service
	service.TLS = config
	service.RegisterEndpoints = true
	service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(s.User, s.Password)}
	s.timeOutSessions()
	s.AddUser(s.User, s.Password)
	s.Model.Map().SessionManager().ValidLogin = func(l *types.Login) bool { return s.knows(l.UserName, l.Password) }
	s.Model.Map().Handler = s.dispatch
	s.server = service.NewServer()
	s.server.Config.Handler = s.door(s.server.Config.Handler)
	t.Cleanup(s.stop)
	s.introduce(t)
}

// introduce fills in what clients need to know of the server.
func (s *Server) introduce(t testing.TB) {
	t.Helper()
	u := *s.server.URL
	u.User = nil
	s.URL = &u
	info := s.server.CertificateInfo()
	s.ThumbprintSHA1, s.ThumbprintSHA256 = info.ThumbprintSHA1, info.ThumbprintSHA256
	s.CAFile = filepath.Join(s.folder, "ca.pem")
	if err := writeCertificate(s.CAFile, s.server.Certificate()); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) stop() {
	close(s.closed)
	s.server.CloseClientConnections() // or those who wait for updates keep it open
	s.server.Close()
	for _, l := range s.openLeases() {
		l.over()
	}
}

// context is the arranger's, one for each thing that it does: locks are held by contexts.
func (s *Server) context() *simulator.Context {
	c := *s.Model.Service.Context
	return &c
}
