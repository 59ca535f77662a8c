package fleet

import (
	"context"
	"crypto/subtle"
	"errors"
	"sync"
	"time"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/seal"
)

// Registry knows who belongs to the fleet, and lets others in and out. It may be used by
// many at once, and by all voting appliances at the same time.
type Registry struct {
	State  string
	ID     string       // of this appliance
	Sealer *seal.Sealer // this appliance's own
	Store  auth.Store
	Audit  auth.Audit
	// Member is this appliance's part; nil if it is in no fleet: it founds one when it
	// invites.
	Member *Member
	// Works is whether this appliance works for others, and lets nobody in.
	Works bool
	// Addresses are where others reach this one's API, and Print is the SHA-256 of the
	// certificate that it shows there.
	Addresses []string
	Print     []byte
	// Hubs are where others reach what keeps the fleet's migrations.
	Hubs []string
	// Alive tells whether an appliance is heard of.
	Alive func(id string) bool
	// Cut ends the connections of appliances.
	Cut func(ids ...string)
	// Now is the clock; time.Now if nil.
	Now func() time.Time

	mu sync.Mutex
}

func (r *Registry) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// founded is this appliance's part in the fleet, which begins if there is none.
func (r *Registry) founded() (*Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Works {
		return nil, ErrWorker
	}
	if r.Member == nil {
		m, err := Found(r.State, r.ID, r.Sealer)
		if err != nil {
			return nil, err
		}
		r.Member = m
	}
	if r.Member.sign == nil {
		return nil, ErrWorker
	}
	return r.Member, nil
}

// member is this appliance's part, or nil.
func (r *Registry) member() *Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Member
}

// record tells the audit how something ended.
func (r *Registry) record(ctx context.Context, by auth.Principal, action, target, detail string, err error) {
	e := auth.Entry{Time: r.now().UTC(), Principal: by, From: by.From, Action: action, Target: target, Outcome: auth.Done, Detail: detail}
	if err != nil {
		e.Outcome, e.Detail = auth.Failed, err.Error()
		for _, rule := range []error{ErrInput, ErrToken, ErrWorker, ErrUnknown, ErrThere, auth.ErrNotFound} {
			if errors.Is(err, rule) {
				e.Outcome = auth.Refused
			}
		}
	}
	r.Audit.Record(ctx, e)
}

func (r *Registry) records() auth.Records { return auth.Records{Store: r.Store} }

// drop deletes a record, whatever it has become.
func (r *Registry) drop(ctx context.Context, key string) error {
	for {
		_, revision, err := r.Store.Read(ctx, key)
		if err == nil {
			err = r.Store.Delete(ctx, key, revision)
		}
		if !errors.Is(err, auth.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
