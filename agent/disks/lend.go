package disks

import (
	"fmt"

	"hyper2kvm/agent/api/model"
)

// Source is the path of a disk that was chosen as source.
func (k *Keeper) Source(id string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.lend(id, model.DiskUseAsSource)
	return k.Path(id), err
}

// Target is the path of a disk that was chosen as target, and whether what is on it may
// be lost. From now on it is the migration's, until it is chosen again.
func (k *Keeper) Target(id, migration string) (path string, erase bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.lend(id, model.DiskUseAsTarget)
	switch {
	case err != nil:
		return "", false, err
	case c.Taken == migration:
		return k.Path(id), c.Use.Erase, nil
	case c.Taken != "":
		return "", false, fmt.Errorf("%w: the migration %s has written to %s: choose it as target again, with erase, if that may be lost", ErrHolds, c.Taken, id)
	}
	c.Taken = migration
	return k.Path(id), c.Use.Erase, k.save()
}

// lend is the choice of a disk that is there and can be used.
func (k *Keeper) lend(id string, as model.DiskUseAs) (*choice, error) {
	c, l := k.choice(id), k.live[id]
	switch {
	case c == nil || c.Use.As != as:
		return nil, fmt.Errorf("%w: %s was not chosen as %s: PUT /disks/%s/use, or hyper2kvm disks use %s --as %s", ErrUnknown, id, as, id, id, as)
	case l == nil:
		return nil, fmt.Errorf("%w: %s is not attached: plug it in again", ErrUnknown, id)
	case l.note != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrInput, id, l.note)
	}
	return c, nil
}
