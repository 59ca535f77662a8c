package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/spec"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

// Server is how a vCenter or an ESXi host is reached, and how disks are read from it.
type Server struct {
	Name           string // in the settings
	Address, User  string
	Password       []byte // it goes through the runner's socket alone
	Number         uint64 // of the password, as its secret has it
	Thumbprint, CA string
	Proxy          string
	Resolve        map[string]string
	Transports     []string
	VDDK           string // folder of VMware's library; "" if there is none
	VDDKModes      string
	VDDKPlugin     string     // file of nbdkit's; "": nbdkit's own
	SSH            config.SSH // without a user there is none
	SSHPassword    []byte     // nil: there is a key alone; it goes as Password does
}

// VM is one that a guest is brought from.
type VM struct {
	Server
	VM           string
	Live         bool // it runs on
	Quiesce      bool
	PowerOff     bool
	ShutdownWait time.Duration
	Marks        model.Marks
	Limits       []transfer.Limit `json:"-"` // the order's
}

// VSphere brings guests from vSphere. It is an interface so that this package, and all
// that is built on it, is tested without the library of vSphere.
type VSphere interface {
	// Origin is a VM as the pipeline takes it. ID and folder are the migration's; what
	// takes long is told.
	Origin(v VM, id, folder string, log *slog.Logger, tell func(string)) (pipeline.Origin, error)
	// Owes tells whether the migration in a folder has changed something in vSphere that
	// may still have to be taken back.
	Owes(folder string) (bool, error)
	// Restore takes that back.
	Restore(ctx context.Context, s Server, folder string, log *slog.Logger) error
	// File is the name of what a migration's folder says of it in.
	File() string
	// Code is the code of a problem that callers decide on; "" if an error is none.
	Code(err error) string
}

// CodeLogin is the code of a log-in that a server has refused.
const CodeLogin = "vsphere-login"

// errNoVSphere is a program that cannot do it.
var errNoVSphere = errors.New("this program takes no guests from vSphere")

// vm is the VM that a job needs; nil if it needs none.
func (w *Worker) vm(ctx context.Context, j engine.Job, folder string) (*VM, error) {
	from := j.Spec.Source.Vsphere
	if from.Server == "" {
		return nil, nil
	}
	if w.VSphere == nil {
		return nil, refused("no-vsphere", errNoVSphere)
	}
	needs, err := w.needsServer(j, folder)
	if err != nil || !needs {
		return nil, err
	}
	s, err := w.Server(ctx, from.Server)
	if err != nil {
		return nil, err
	}
	if len(from.Transports) > 0 {
		s.Transports = nil
		for _, name := range from.Transports {
			s.Transports = append(s.Transports, string(name))
		}
	}
	return &VM{Server: s, VM: from.VM, Live: live(j), Quiesce: from.Quiesce, PowerOff: from.PowerOff, ShutdownWait: time.Duration(from.ShutdownWait) * time.Second, Marks: from.Marks}, nil
}

// needsServer tells whether a task asks its VM's server for anything.
func (w *Worker) needsServer(j engine.Job, folder string) (bool, error) {
	switch j.Task {
	case engine.Migrate:
		return true, nil
	case engine.Verify:
		return j.Args.AgainstSource, nil
	case engine.Clear:
		return w.VSphere.Owes(folder)
	}
	return false, nil
}

// live tells whether a job leaves its VM running: one that looks, or rehearses, and one
// whose plan is still to be approved. What was approved is begun anew with the VM at
// rest; a plan that comes out otherwise then is to be approved once more, and the VM
// runs meanwhile.
func live(j engine.Job) bool {
	if j.Task != engine.Migrate {
		return false
	}
	waits := j.Spec.Approval == model.SpecApprovalRequired && j.Plan.ApprovedBy == ""
	return waits || spec.Looks(j.Spec) || j.Spec.Mode == model.ModeRehearse || j.Spec.Mode == model.ModeTest
}

// sourceVM is a VM as a migration's record names it, by its server's name in the settings.
func sourceVM(v model.SourceVM) string {
	return (&url.URL{Scheme: "vsphere", Host: v.Server, Path: "/" + strings.TrimPrefix(v.VM, "/")}).String()
}

// clear takes back what the migration has changed in vSphere, and removes what it has
// made.
func (o order) clear(ctx context.Context, v VSphere, log *slog.Logger) error {
	if o.VM != nil && v != nil {
		if err := v.Restore(ctx, o.VM.Server, o.Folder, log); err != nil {
			return err
		}
	}
	return discard(v, o.Folder, o.ID)
}

// mind has a password that a server has refused tried no more.
func (w *Worker) mind(o order, err error) {
	var f *engine.Failure
	if o.VM != nil && errors.As(err, &f) && f.Code == CodeLogin {
		w.Refused(o.VM.Server, f.Detail)
	}
}

// errOwes is a migration whose folder must stay.
var errOwes = errors.New("what it has changed in vSphere is not all taken back, and its folder says what: cancel it again, or run hyper2kvm vsphere restore there")

// discard removes what a migration has made, once nothing is owed.
func discard(v VSphere, folder, id string) error {
	if v == nil {
		return pipeline.Discard(folder, id)
	}
	owes, err := v.Owes(folder)
	if err != nil {
		return err
	}
	if owes {
		return errOwes
	}
	return pipeline.Discard(folder, id, v.File())
}

// drop removes a folder that nobody was told of, unless something is owed: then whoever
// goes on needs it.
func (w *Worker) drop(folder string) error {
	if w.VSphere != nil {
		if owes, err := w.VSphere.Owes(folder); err != nil || owes {
			return err
		}
	}
	return os.RemoveAll(folder)
}
