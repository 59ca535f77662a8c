package hooks

import (
	"fmt"
	"os/user"
	"strconv"

	"hyper2kvm/pipeline/proc"
)

// nobody is whom programs run as if the settings say nothing and this process is root.
const nobody = "nobody"

// account is whom a program runs as; nil if that is who this process is. Only root can
// have it be somebody else, and an agent that is not root has no rights to take away.
func account(name string, self int) (*proc.User, error) {
	if name == "" && self != 0 {
		return nil, nil
	}
	if name == "" {
		name = nobody
	}
	as, err := lookup(name)
	switch {
	case err != nil:
		return nil, err
	case self == 0:
		return &as, nil
	case int(as.UID) != self:
		return nil, fmt.Errorf("programs are to run as %s, and only root can have them do so: run the agent as root, or leave out hooks.user in its settings", name)
	}
	return nil, nil
}

// lookup is a user by a name or a number.
func lookup(name string) (proc.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return proc.User{}, fmt.Errorf("this host has no user %s: name another one in the settings, hooks.user", name)
		}
	}
	uid, bad := strconv.ParseUint(u.Uid, 10, 32)
	gid, worse := strconv.ParseUint(u.Gid, 10, 32)
	if bad != nil || worse != nil {
		return proc.User{}, fmt.Errorf("the user %s has the numbers %s and %s, which are none", name, u.Uid, u.Gid)
	}
	return proc.User{UID: uint32(uid), GID: uint32(gid)}, nil
}
