// Package transport is the data plane: it reads the bytes of disks that lie in
// vSphere. It knows no inventory: what is to be read, and how the server is reached,
// is handed to it.
//
// Transport: one way to read a disk's bytes. Access: how the servers are reached.
// Disk: what is read, one disk of a VM that is off or in a snapshot. Carrier: several
// transports that are tried one after the other, also in the middle of a disk.
package transport

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"

	"hyper2kvm/pipeline/disk"
)

// Errors that a carrier decides on.
var (
	// ErrUnusable is a transport that cannot be used for a disk, now or ever; its
	// text says why, for people.
	ErrUnusable = errors.New("cannot be used")
	// ErrGone is a disk or a snapshot that is not there any more: no other transport will
	// find it.
	ErrGone = errors.New("is gone")
	// ErrEnded is an export that the server does not know any more. There may be another.
	ErrEnded = errors.New("has ended")
)

// Transport is one way to read disks. Its name is stable.
type Transport struct {
	Name string
	Does string // for people
	// Own: it keeps to its host's budget itself, or reads through no host. The reads
	// of others the carrier keeps to it.
	Own bool
	// Whole: it takes the disk whole when it is opened, and tells Disk.Came itself what
	// that was. Of others it is what they are asked for.
	Whole bool
	// Open opens a disk to read it, until Close, also if ctx ends before. ErrUnusable
	// is a disk that this transport cannot read, or a machine that lacks what it needs.
	Open func(ctx context.Context, a Access, d Disk) (disk.Remote, error)
}

// Access is how the servers are reached. What is nil or empty is not to be had, and
// the transports that need it are unusable.
type Access struct {
	Server     *url.URL // of the vCenter or the ESXi host, without credentials
	Thumbprint string   // SHA-1 of its certificate, upper case with colons, as VDDK wants it
	// HTTP reaches the server, which it has authenticated by its certificate.
	HTTP *http.Client
	// Cookie is the header value of a session at the server. A cookie that was
	// refused is given, to get another one.
	Cookie func(ctx context.Context, refused string) (string, error)
	// Login is the user and the password, for what logs in by itself.
	Login func() (user, password string)
	VDDK  string // folder of VMware's library, as its archive unpacks
	// VDDKPlugin is the file of nbdkit's plugin; empty: nbdkit's own. VDDKModes are the
	// library's modes of transport, in order, such as san:nbdssl; empty: its own choice.
	VDDKPlugin, VDDKModes string
	SSH                   *SSH
	// Pace returns when so many bytes more may be taken of what is sent unasked: whole
	// disks. Nil: at once.
	Pace func(ctx context.Context, n int64) error
}

// SSH is how the ESXi hosts are reached over SSH.
type SSH struct {
	User     string
	Key      string // file of a private key
	Password func() string
	HostKeys string // file, as known_hosts; or
	// Fingerprint is of the one key that the host may have, as ssh-keygen -l prints it:
	// SHA256:…
	Fingerprint string
	Port        int // 22 if zero
	// refused are the errors of hosts, by address, that refused this log-in. None is asked
	// again, for the next disk or after a cut: hosts lock an account after a few attempts.
	//
	// Source: vSphere Security, "ESXi Passwords and Account Lockout": five, for 15 minutes.
	refused sync.Map
	turns   turns // one log-in at a host at a time, which may be the last
}

// Disk is one disk of a VM, as it is in a snapshot or while the VM is off. It does not
// change while it is read.
type Disk struct {
	VM         string   // MoRef
	Snapshot   string   // MoRef; empty: the VM is off and is read as it is
	Key        int32    // VMware's device key
	Files      []string // the chain's descriptors as datastore paths, the nearest first
	Datacenter string   // its inventory path, for dcPath
	Host       string   // that reaches the datastores, by an address that resolves here
	UUID       string   // of the disk
	Size       int64    // bytes
	// Allocated tells what of n bytes from off on was ever written, in order and
	// without gaps: at least one, and not always all. Nil: not known.
	Allocated func(ctx context.Context, off, n int64) ([]disk.Allocation, error)
	// Export begins an export of the disk by the server (HttpNfcLease). Nil: there is none.
	Export func(ctx context.Context) (Export, error)
	// Attach makes the disk a disk of the machine that this program runs on. Nil: it
	// does not run in this vSphere.
	Attach func(ctx context.Context) (Attached, error)
	// Folder is where a transport that can only read from start to end may keep the
	// disk meanwhile.
	Folder string
	// Holds is how many bytes of the disk can be other than zeroes; Size if zero. Next is
	// that of the VM's disks whose opening begins after it, into the same folder maybe.
	Holds, Next int64
	// Begun is called when a transport that takes the disk whole has found room for it and
	// begins. It may be nil.
	Begun func()
	// Came hears of the bytes that are taken from the server. It may be nil.
	Came func(n int64)
}

// Export is a disk that a server sends as a streamOptimized VMDK.
type Export struct {
	URL    *url.URL
	Client *http.Client // that authenticates that URL's host by its certificate
	// Progress says how far it is, 0 to 100, and keeps the export alive, if it has not
	// ended (ErrEnded).
	Progress func(ctx context.Context, percent int) error
	// Close ends the export; complete if the disk was read whole.
	Close func(ctx context.Context, complete bool) error
}

// Attached is a disk of the machine that this program runs on.
type Attached struct {
	Serial string // by which the kernel tells it from others: the disk's UUID without dashes
	// Detach takes it away again; nothing may have it open.
	Detach func(ctx context.Context) error
}
