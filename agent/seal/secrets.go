package seal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/agent/auth"
)

// Bounds of what is kept.
const (
	MostSecret  = 64 << 10 // bytes of one
	MostSecrets = 1000
)

// ErrInput is of a name or a secret that cannot be kept.
var ErrInput = errors.New("cannot be kept")

var secretName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

const prefix = "secrets."

// Secrets are kept sealed in a store. Open is for what runs a job: no API returns what it
// returns.
type Secrets struct {
	store  auth.Store
	sealer *Sealer
}

// NewSecrets keeps secrets in a store.
func NewSecrets(store auth.Store, sealer *Sealer) *Secrets { return &Secrets{store, sealer} }

// Put keeps a secret under a name, in the place of an earlier one.
func (s *Secrets) Put(ctx context.Context, name string, secret Secret) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(secret) == 0 || len(secret) > MostSecret {
		return fmt.Errorf("%w: the secret %s has %d bytes; 1 at least and %d at most are kept", ErrInput, name, len(secret), MostSecret)
	}
	if err := s.room(ctx, name); err != nil {
		return err
	}
	return s.put(ctx, name, s.sealer.Seal(name, secret))
}

// attempts is more than there are who put one secret at the same time.
const attempts = 100

// put writes what is sealed; of several at the same time the last one stays.
func (s *Secrets) put(ctx context.Context, name string, sealed []byte) error {
	for range attempts {
		_, revision, err := s.store.Read(ctx, prefix+name)
		switch {
		case err == nil:
			err = s.store.Update(ctx, prefix+name, sealed, revision)
		case errors.Is(err, auth.ErrNotFound):
			err = s.store.Create(ctx, prefix+name, sealed)
		}
		if !errors.Is(err, auth.ErrChanged) && !errors.Is(err, auth.ErrExists) {
			return err
		}
	}
	return auth.ErrChanged
}

// room tells whether there is some for a new name.
func (s *Secrets) room(ctx context.Context, name string) error {
	names, err := s.Names(ctx)
	if err == nil && len(names) >= MostSecrets && !slices.Contains(names, name) {
		return fmt.Errorf("%w: there are %d secrets: delete some", ErrInput, len(names))
	}
	return err
}

// Open returns a secret, or auth.ErrNotFound, ErrNoKey or ErrDamaged. Wipe it after use.
func (s *Secrets) Open(ctx context.Context, name string) (Secret, error) {
	secret, _, err := s.OpenRevision(ctx, name)
	return secret, err
}

// OpenRevision is Open, and tells a number that is another one each time the secret is
// put, the same one again too.
func (s *Secrets) OpenRevision(ctx context.Context, name string) (Secret, uint64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	sealed, revision, err := s.store.Read(ctx, prefix+name)
	if err != nil {
		return nil, 0, fmt.Errorf("the secret %s: %w", name, err)
	}
	secret, err := s.sealer.Open(name, sealed)
	return secret, revision, err
}

// Names lists the names of all secrets, in order.
func (s *Secrets) Names(ctx context.Context) ([]string, error) {
	keys, err := s.store.List(ctx, prefix)
	for i, key := range keys {
		keys[i] = strings.TrimPrefix(key, prefix)
	}
	slices.Sort(keys)
	return keys, err
}

// Delete removes a secret, or returns auth.ErrNotFound.
func (s *Secrets) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for range attempts {
		_, revision, err := s.store.Read(ctx, prefix+name)
		if err == nil {
			err = s.store.Delete(ctx, prefix+name, revision)
		}
		if err == nil || !errors.Is(err, auth.ErrChanged) {
			return err
		}
	}
	return auth.ErrChanged
}

// Reseal seals with the first key what is sealed with another one, and tells how many
// that were. After it the other keys can be taken away, if it returns no error.
func (s *Secrets) Reseal(ctx context.Context) (n int, err error) {
	names, err := s.Names(ctx)
	errs := []error{err}
	for _, name := range names {
		done, err := s.reseal(ctx, name)
		if done {
			n++
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// reseal does one. If it is put or deleted meanwhile, by an appliance that may have the
// keys in another order, that is an error: Reseal again.
func (s *Secrets) reseal(ctx context.Context, name string) (done bool, err error) {
	sealed, revision, err := s.store.Read(ctx, prefix+name)
	if errors.Is(err, auth.ErrNotFound) {
		return false, nil
	}
	if err != nil || s.sealer.current(sealed) {
		return false, err
	}
	secret, err := s.sealer.Open(name, sealed)
	if err != nil {
		return false, err
	}
	defer secret.Wipe()
	err = s.store.Update(ctx, prefix+name, s.sealer.Seal(name, secret), revision)
	return err == nil, err
}

func checkName(name string) error {
	if !secretName.MatchString(name) {
		return fmt.Errorf("%w: a secret's name is 1 to 63 of a-z, 0-9 and -, and does not begin with -", ErrInput)
	}
	return nil
}
