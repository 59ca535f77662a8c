package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/auth"
	"hyper2kvm/fixers/guest"
)

// Invitation is what is shown of one.
type Invitation struct {
	ID      string
	Role    Role
	By      string
	Created time.Time
	Expires time.Time
	Used    time.Time // zero: it was not
	Joined  string    // ID of the appliance that used it
}

// NewInvitation is what is asked for.
type NewInvitation struct {
	Role      Role
	Addresses []string      // where the new appliance reaches this one's API; none: as this one knows them
	Life      time.Duration // zero: DefaultInvitation
}

// invitation is what is kept of one.
type invitation struct {
	Hash    string    `json:"hash"` // SHA-256 of the secret, which is random
	Role    Role      `json:"role"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
	Joined  string    `json:"joined,omitempty"`
}

const (
	prefix            = "fleet."
	invitationsPrefix = prefix + "invitations."
	mostInvitations   = 100
)

func hashOf(secret guest.Secret) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// Invite lets one appliance join, once. The token is shown now and never again.
func (r *Registry) Invite(ctx context.Context, by auth.Principal, n NewInvitation) (guest.Secret, Invitation, error) {
	n.Role, n.Life = cmp.Or(n.Role, Worker), cmp.Or(n.Life, DefaultInvitation)
	text, i, err := r.invite(ctx, by, n)
	r.record(ctx, by, "fleet.invite", i.ID, string(n.Role), err)
	return text, i, err
}

func (r *Registry) invite(ctx context.Context, by auth.Principal, n NewInvitation) (guest.Secret, Invitation, error) {
	if len(n.Addresses) == 0 {
		n.Addresses = r.Addresses
	}
	if err := n.check(); err != nil {
		return nil, Invitation{}, err
	}
	if _, err := r.founded(); err != nil {
		return nil, Invitation{}, err
	}
	if err := r.room(ctx); err != nil {
		return nil, Invitation{}, err
	}
	t := token{Addresses: n.Addresses, Print: r.Print, Invitation: strings.ToLower(rand.Text()[:invitationID]), Secret: newSecret()}
	text, err := t.text()
	if err != nil {
		return nil, Invitation{}, err
	}
	now := r.now().UTC()
	i := invitation{Hash: hashOf(t.Secret), Role: n.Role, By: by.Name, Created: now, Expires: now.Add(n.Life)}
	return text, i.shown(t.Invitation), r.records().Save(ctx, invitationsPrefix+t.Invitation, i, 0)
}

func (n NewInvitation) check() error {
	switch {
	case n.Life < time.Minute || n.Life > LongestInvitation:
		return fmt.Errorf("%w: an invitation lasts a minute at least and 7 days at most", ErrInput)
	case len(n.Addresses) == 0:
		return fmt.Errorf("%w: this appliance has no HTTPS listener: add one to listen in its settings, since others join through it", ErrInput)
	case len(n.Addresses) > mostOfThem:
		return fmt.Errorf("%w: a token holds %d addresses at most", ErrInput, mostOfThem)
	}
	for _, a := range n.Addresses {
		if err := checkAddress(a); err != nil {
			return err
		}
	}
	return n.Role.check()
}

// room forgets old invitations, and tells whether there may be another one.
func (r *Registry) room(ctx context.Context) error {
	list, err := r.Invitations(ctx)
	n := len(list)
	for _, i := range list {
		if r.now().After(i.Expires.Add(remembered)) {
			err = errors.Join(err, r.drop(ctx, invitationsPrefix+i.ID))
			n--
		}
	}
	if err == nil && n >= mostInvitations {
		err = fmt.Errorf("%w: there are %d invitations: withdraw some", ErrInput, n)
	}
	return err
}

func (i invitation) shown(id string) Invitation {
	return Invitation{id, i.Role, i.By, i.Created, i.Expires, i.Used, i.Joined}
}

// Invitations are all that are remembered, the newest first.
func (r *Registry) Invitations(ctx context.Context) ([]Invitation, error) {
	keys, err := r.Store.List(ctx, invitationsPrefix)
	if err != nil {
		return nil, err
	}
	list := []Invitation{}
	for _, key := range keys {
		var i invitation
		if _, err := r.records().Load(ctx, key, &i); errors.Is(err, auth.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		list = append(list, i.shown(strings.TrimPrefix(key, invitationsPrefix)))
	}
	slices.SortFunc(list, func(a, b Invitation) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// Withdraw makes a token worthless that was not used.
func (r *Registry) Withdraw(ctx context.Context, by auth.Principal, id string) error {
	_, err := r.founded()
	if err == nil {
		err = r.drop(ctx, invitationsPrefix+id)
	}
	if errors.Is(err, auth.ErrNotFound) {
		err = fmt.Errorf("the invitation %w", auth.ErrNotFound)
	}
	r.record(ctx, by, "fleet.withdraw", id, "", err)
	return err
}

// use takes an invitation for an appliance: nobody else can from then on.
func (r *Registry) use(ctx context.Context, id string, secret guest.Secret, appliance string) (invitation, error) {
	const unknown = "it is not known here: it was withdrawn, or is of another fleet"
	if len(id) != invitationID || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return invitation{}, fmt.Errorf("%w: %s", ErrToken, unknown)
	}
	var i invitation
	revision, err := r.records().Load(ctx, invitationsPrefix+id, &i)
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return i, fmt.Errorf("%w: %s", ErrToken, unknown)
	case err != nil:
		return i, err
	case !same(i.Hash, hashOf(secret)):
		return invitation{}, fmt.Errorf("%w: %s", ErrToken, unknown)
	case !i.Used.IsZero():
		return i, fmt.Errorf("%w: it was used at %s, by the appliance %s; ask for another one", ErrToken, i.Used.Format(time.RFC3339), i.Joined)
	case !r.now().Before(i.Expires):
		return i, fmt.Errorf("%w: it ran out at %s; ask for another one", ErrToken, i.Expires.Format(time.RFC3339))
	}
	i.Used, i.Joined = r.now().UTC(), appliance
	if err := r.records().Save(ctx, invitationsPrefix+id, i, revision); errors.Is(err, auth.ErrChanged) {
		return i, fmt.Errorf("%w: another appliance uses it at this moment", ErrToken)
	} else if err != nil {
		return i, err
	}
	return i, nil
}
