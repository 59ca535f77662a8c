package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"hyper2kvm/agent/seal"
)

// Member is this appliance's part in a fleet. It may be used by many at once.
type Member struct {
	folder  string
	sealer  *seal.Sealer // this appliance's own
	kept    keptMember
	roots   *x509.CertPool
	shown   atomic.Pointer[tls.Certificate]
	removed *removed
	sign    *authority // nil of a worker
	now     func() time.Time
}

// keptMember is the file that holds one.
type keptMember struct {
	ID          string   `json:"id"`
	Role        Role     `json:"role"`
	Authority   string   `json:"authority"`        // PEM
	Certificate string   `json:"certificate"`      // PEM
	Key         []byte   `json:"key"`              // PKCS #8, sealed
	Shared      []byte   `json:"shared,omitempty"` // keys that open the fleet's secrets, sealed
	Hubs        []string `json:"hubs,omitempty"`   // where the fleet keeps what it knows
}

const (
	memberFile = "member.json"
	memberKey  = "fleet-member" // that a member's key is sealed for
	sharedKeys = "fleet-shared" // that the fleet's keys are sealed for
)

// Folder is where an appliance's state holds what is of its fleet.
func Folder(state string) string { return filepath.Join(state, "fleet") }

// Open is this appliance's part in the fleet that it has founded or joined; ErrAlone if
// it is in none.
func Open(state string, sealer *seal.Sealer) (*Member, error) {
	m := &Member{folder: Folder(state), sealer: sealer, now: time.Now}
	err := readKept(filepath.Join(m.folder, memberFile), &m.kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAlone
	}
	if err != nil {
		return nil, err
	}
	return m, m.load()
}

func (m *Member) load() (err error) {
	ca, err := parseCertificate(m.kept.Authority)
	if err != nil {
		return fmt.Errorf("%s: authority: %w", m.folder, err)
	}
	m.roots = x509.NewCertPool()
	m.roots.AddCert(ca)
	if m.removed, err = openRemoved(m.folder); err != nil {
		return err
	}
	if m.kept.Role == Voting {
		if m.sign, err = loadAuthority(m.folder, m.sealer); err != nil {
			return err
		}
	}
	return m.show()
}

// show makes the certificate that is kept the one that is shown.
func (m *Member) show() error {
	c, err := parseCertificate(m.kept.Certificate)
	if err != nil {
		return fmt.Errorf("%s: certificate: %w", m.folder, err)
	}
	der, err := m.sealer.Open(memberKey, m.kept.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", m.folder, err)
	}
	defer der.Wipe()
	key, err := parseKey(der)
	if err != nil {
		return fmt.Errorf("%s: key: %w", m.folder, err)
	}
	m.shown.Store(&tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c})
	return nil
}

// Found is Open, or begins a fleet of which this appliance is the first: it votes.
func Found(state, id string, sealer *seal.Sealer) (*Member, error) {
	m, err := Open(state, sealer)
	if !errors.Is(err, ErrAlone) {
		return m, err
	}
	now := time.Now()
	a, err := openAuthority(Folder(state), sealer, now)
	if err != nil {
		return nil, err
	}
	key, sealed, err := newKey(sealer)
	if err != nil {
		return nil, err
	}
	der, err := a.issue(key.Public(), id, Voting, now)
	if err != nil {
		return nil, err
	}
	k := keptMember{ID: id, Role: Voting, Authority: asPEM(a.certificate.Raw), Certificate: asPEM(der), Key: sealed}
	if err := writeKept(filepath.Join(Folder(state), memberFile), k); err != nil {
		return nil, err
	}
	return Open(state, sealer)
}

// newKey is a key of a member's, and the same sealed.
func newKey(sealer *seal.Sealer) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	defer clear(der)
	return key, sealer.Seal(memberKey, der), nil
}

// ID is this appliance's in the fleet.
func (m *Member) ID() string { return m.kept.ID }

// Role is this appliance's in the fleet.
func (m *Member) Role() Role { return m.kept.Role }

// Founder tells whether this appliance began the fleet.
func (m *Member) Founder() bool { return len(m.kept.Shared) == 0 }

// Hubs are where the fleet keeps what it knows, as far as was known when this appliance
// joined: hosts and ports.
func (m *Member) Hubs() []string { return m.kept.Hubs }

// Sealer is this appliance's, which also has the keys of the fleet's secrets.
func (m *Member) Sealer() (*seal.Sealer, error) {
	if len(m.kept.Shared) == 0 {
		return m.sealer, nil
	}
	keys, err := m.sealer.Open(sharedKeys, m.kept.Shared)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.folder, err)
	}
	defer keys.Wipe()
	return m.sealer.With(keys)
}

// Expires is when this appliance's certificate has run out, if it is not renewed.
func (m *Member) Expires() time.Time { return m.shown.Load().Leaf.NotAfter }
