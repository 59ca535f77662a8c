package vcenter

import (
	"context"
	"errors"
	"net/http"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/worker"
	"hyper2kvm/vmware"
)

// meanings are what errors mean to whoever asks, the first that fits.
var meanings = []struct {
	err    error
	status int
	code   string
	try    string
}{
	{errNoServer, http.StatusNotFound, "no-such-server", "list the vSphere servers, or add it to the settings"},
	{errPurpose, http.StatusUnprocessableEntity, "bad-input", ""},
	{errClosed, http.StatusServiceUnavailable, "busy", "try again when the appliance is back"},
	{auth.ErrNotFound, http.StatusConflict, "no-such-secret", "put the secret that the server's settings name"},
	{vmware.ErrLogin, http.StatusBadGateway, worker.CodeLogin, "put the right password into the server's secret: until then it is not tried again, so that no account is locked"},
	{vmware.ErrConnect, http.StatusBadGateway, "vsphere-away", ""},
	{vmware.ErrSession, http.StatusBadGateway, "vsphere-away", ""},
	{vmware.ErrPrivilege, http.StatusBadGateway, "vsphere-privilege", "give the user the role that hyper2kvm vsphere role writes"},
	{vmware.ErrAmbiguous, http.StatusConflict, "ambiguous", ""},
	{vmware.ErrNotFound, http.StatusNotFound, "no-such-vm", "list the server's VMs"},
	{vmware.ErrGone, http.StatusNotFound, "no-such-vm", "list the server's VMs"},
	{vmware.ErrSelection, http.StatusUnprocessableEntity, "bad-input", ""},
}

// problem is an error as it is told. What ended because nobody waits for it any more
// stays as it is.
func problem(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return failure(m.status, m.code, err, m.try)
		}
	}
	return failure(http.StatusBadGateway, "vsphere-failed", err, "try again; hyper2kvm vsphere check looks at what it stands on")
}

func failure(status int, code string, err error, try string) error {
	return &engine.Failure{Problem: model.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: err.Error(), Try: try}}
}
