// Package vmware is the control plane: it asks a vCenter or an ESXi host what there
// is, what may be done, and has it done. It knows no bytes of disks.
//
// Server: a vCenter or a standalone ESXi host. Session: a log-in at a server, which is
// kept alive and made anew when it ends. VM: a virtual machine in a server's inventory.
// Concern: what stands against migrating a VM, known before anything is done. Trace: a
// change that was made to a VM or to the appliance's own, noted before it is made, and
// taken back at the end.
package vmware

import "errors"

// Errors that callers decide on. What an operator can mend says in its text how.
var (
	// ErrConnect is a server that cannot be reached, or is not the one that was pinned.
	ErrConnect = errors.New("cannot connect to the server")
	// ErrLogin is a server that refuses the credentials.
	ErrLogin = errors.New("the server refuses the log-in")
	// ErrSession is a server that ends each log-in before anything is done in it.
	ErrSession = errors.New("the server ends every session")
	// ErrPrivilege is something that the user may not do.
	ErrPrivilege = errors.New("the user lacks a privilege")
	// ErrNotFound is a VM that is not there, or not to be seen by the user.
	ErrNotFound = errors.New("there is no such VM")
	// ErrAmbiguous is a name that several VMs have.
	ErrAmbiguous = errors.New("several VMs are called so")
)

// Secret is text that is never printed.
type Secret string

const hidden = "[secret]"

// String hides it.
func (Secret) String() string { return hidden }

// GoString hides it.
func (Secret) GoString() string { return hidden }

// MarshalText hides it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Config is how a server is reached.
type Config struct {
	// Server is its address: a host name or an IP address, a port behind it if it is
	// not 443, or a whole https URL.
	Server   string
	User     string
	Password Secret
	// Thumbprint pins the server's certificate: SHA-256 or SHA-1 in hex, with or
	// without colons. CA is a file with certificates that sign the server's. Without
	// either the system's authorities hold.
	Thumbprint string
	CA         string
	// Proxy is the URL of an HTTP proxy; that of the environment if empty.
	Proxy string
	// Resolve has addresses of hosts that DNS does not know here, by their names. A
	// name may have a port behind it, and holds for that port alone then; so may an
	// address.
	Resolve map[string]string
}
