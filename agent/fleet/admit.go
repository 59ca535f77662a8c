package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"time"

	"hyper2kvm/agent/auth"
	"hyper2kvm/fixers/guest"
)

// Asking is what an appliance asks for that joins.
type Asking struct {
	Invitation string       `json:"invitation"`
	Secret     guest.Secret `json:"-"`
	Name       string       `json:"name"`    // for people
	Request    string       `json:"request"` // for a certificate, PEM; its name is the appliance's ID
}

// Admitted is what it gets.
type Admitted struct {
	Role         Role
	Certificate  string       // PEM
	Authority    string       // PEM
	AuthorityKey guest.Secret // PKCS #8; of those that vote alone
	Shared       guest.Secret // keys that open the fleet's secrets
	Hubs         []string
}

// appliance is what is kept of one.
type appliance struct {
	Name   string    `json:"name"`
	Role   Role      `json:"role"`
	Key    string    `json:"key"` // SHA-256
	Joined time.Time `json:"joined"`
}

const appliancesPrefix = prefix + "appliances."

// Admit lets an appliance in that shows an invitation's secret.
func (r *Registry) Admit(ctx context.Context, from string, a Asking) (Admitted, error) {
	id, got, err := r.admit(ctx, a)
	r.record(ctx, auth.Principal{From: from}, "fleet.join", id, a.Name, err)
	return got, err
}

func (r *Registry) admit(ctx context.Context, a Asking) (id string, got Admitted, err error) {
	m := r.member()
	if m == nil || m.sign == nil || r.Works {
		return "", got, fmt.Errorf("%w: it is of another fleet, or of another appliance of it: this one lets nobody in", ErrToken)
	}
	request, err := parseRequest(a.Request)
	if err != nil {
		return "", got, err
	}
	id = request.Subject.CommonName
	if !applianceID.MatchString(id) || len(a.Name) > 253 {
		return "", got, fmt.Errorf("%w: the certificate request names no appliance", ErrInput)
	}
	if id == r.ID || r.Alive(id) {
		return id, got, fmt.Errorf("%w: %s: if the new one is a copy of its disk, remove the files appliance-id and fleet of its state folder there, and join again", ErrThere, id)
	}
	i, err := r.use(ctx, a.Invitation, a.Secret, id)
	if err != nil {
		return id, got, err
	}
	if err := r.enter(ctx, id, appliance{Name: a.Name, Role: i.Role, Key: keyPrint(request.RawSubjectPublicKeyInfo), Joined: r.now().UTC()}); err != nil {
		return id, got, err
	}
	got, err = r.welcome(m, request, id, i.Role)
	return id, got, err
}

// enter notes an appliance. The key of a former life of its own is let in no more.
func (r *Registry) enter(ctx context.Context, id string, a appliance) error {
	var was appliance
	revision, err := r.records().Load(ctx, appliancesPrefix+id, &was)
	if err != nil && !errors.Is(err, auth.ErrNotFound) {
		return err
	}
	if revision > 0 {
		if err := r.shut(ctx, id, was.Key); err != nil {
			return err
		}
	}
	return r.records().Save(ctx, appliancesPrefix+id, a, revision)
}

// welcome is what a new appliance gets.
func (r *Registry) welcome(m *Member, request *x509.CertificateRequest, id string, role Role) (got Admitted, err error) {
	der, err := m.sign.issue(request.PublicKey, id, role, r.now())
	if err != nil {
		return got, err
	}
	sealer, err := m.Sealer()
	if err != nil {
		return got, err
	}
	got = Admitted{Role: role, Certificate: asPEM(der), Authority: m.kept.Authority, Shared: sealer.Keys(), Hubs: r.Hubs}
	if role == Voting {
		got.AuthorityKey, err = x509.MarshalPKCS8PrivateKey(m.sign.key)
	}
	return got, err
}

const removedKey = prefix + "removed"

// shut lets a key in no more, from now on and everywhere.
func (r *Registry) shut(ctx context.Context, id, key string) error {
	for {
		list := map[string]Gone{}
		revision, err := r.records().Load(ctx, removedKey, &list)
		if err != nil && !errors.Is(err, auth.ErrNotFound) {
			return err
		}
		now := r.now().UTC()
		maps.DeleteFunc(list, func(_ string, g Gone) bool { return now.After(g.At.Add(life + skew)) }) // its certificate has run out
		list[key] = Gone{id, now}
		err = r.records().Save(ctx, removedKey, list, revision)
		if err == nil {
			return r.took(list)
		}
		if !errors.Is(err, auth.ErrChanged) && !errors.Is(err, auth.ErrExists) || ctx.Err() != nil {
			return err
		}
	}
}

// took refuses from now on who was removed.
func (r *Registry) took(list map[string]Gone) error {
	m := r.member()
	if m == nil {
		return nil
	}
	return m.removed.set(list)
}

// Remove lets an appliance in no more. What it worked on is taken over when its lease
// is over, which it heeds by itself.
func (r *Registry) Remove(ctx context.Context, by auth.Principal, id string) error {
	err := r.remove(ctx, id)
	r.record(ctx, by, "fleet.remove", id, "", err)
	return err
}

func (r *Registry) remove(ctx context.Context, id string) error {
	if _, err := r.founded(); err != nil {
		return err
	}
	if id == r.ID {
		return fmt.Errorf("%w: an appliance does not remove itself; ask another one that votes", ErrInput)
	}
	var a appliance
	if !applianceID.MatchString(id) {
		return fmt.Errorf("%w: %q", ErrUnknown, id)
	}
	_, err := r.records().Load(ctx, appliancesPrefix+id, &a)
	switch {
	case errors.Is(err, auth.ErrNotFound):
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	case err != nil:
		return err
	case a.Role == Voting && r.Alive(id):
		return fmt.Errorf("%w: %s votes: stop it first, since the others go on with it until then", ErrThere, id)
	}
	if err := r.shut(ctx, id, a.Key); err != nil {
		return err
	}
	r.Cut(id)
	return r.drop(ctx, appliancesPrefix+id)
}

// Follow takes over, until ctx ends, who was removed by others, and ends the connections
// of all that were: one may have been let in at the same moment.
func (r *Registry) Follow(ctx context.Context) error {
	list := map[string]Gone{}
	if _, err := r.records().Load(ctx, removedKey, &list); errors.Is(err, auth.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if err := r.took(list); err != nil {
		return err
	}
	return r.sweep(ctx, list)
}

// sweep ends the connections of appliances that were removed and have not come back.
func (r *Registry) sweep(ctx context.Context, list map[string]Gone) error {
	var ids []string
	for _, g := range list {
		var a appliance
		_, err := r.records().Load(ctx, appliancesPrefix+g.ID, &a)
		if errors.Is(err, auth.ErrNotFound) {
			ids = append(ids, g.ID)
		} else if err != nil {
			return err
		}
	}
	r.Cut(ids...)
	return nil
}
