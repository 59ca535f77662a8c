package vsphere

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"hyper2kvm/pipeline/source"
	"hyper2kvm/vmware"
)

// mendable are errors that whoever asked can mend.
var mendable = []error{vmware.ErrConnect, vmware.ErrLogin, vmware.ErrSession, vmware.ErrPrivilege, vmware.ErrNotFound, vmware.ErrAmbiguous,
	vmware.ErrNeedsPowerOff, vmware.ErrSuspended, vmware.ErrTooMany, vmware.ErrSpace}

// Asked tells errors that whoever asked can mend from others: they are
// source.ErrBadInput too.
func Asked(err error) error {
	if errors.Is(err, source.ErrBadInput) || !slices.ContainsFunc(mendable, func(e error) bool { return errors.Is(err, e) }) {
		return err
	}
	return fmt.Errorf("%w: %w", source.ErrBadInput, err)
}

// ParseServer takes a server apart that a text names, as vsphere://USER@SERVER or alone.
func ParseServer(text string) (server, user string, err error) {
	if !Is(text) {
		text = Scheme + "://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", "", fmt.Errorf("%w: %q: want a server's name or address, such as vcenter.example.com, with USER@ before it", source.ErrBadInput, text)
	}
	if _, has := u.User.Password(); has {
		return "", "", errPassword
	}
	return u.Host, u.User.Username(), nil
}

var errPassword = fmt.Errorf("%w: the password stands in the command line: others see it there; give it with --password-file", source.ErrBadInput)
