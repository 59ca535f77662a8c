package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"hyper2kvm/agent/auth"
)

// renewal is what a member asks a voting appliance for, and what that answers. The
// request is signed by the key of the certificate that it renews.
type renewal struct {
	Certificate string `json:"certificate,omitempty"` // PEM
	Request     string `json:"request,omitempty"`     // PEM
	Refused     string `json:"refused,omitempty"`     // why
}

// Renew answers another appliance that wants its certificate renewed.
func (r *Registry) Renew(ctx context.Context, asked []byte) []byte {
	answer, err := r.renew(ctx, asked)
	if err != nil {
		answer = renewal{Refused: err.Error()}
	}
	text, err := json.Marshal(answer)
	if err != nil { // of texts alone
		return nil
	}
	return text
}

func (r *Registry) renew(ctx context.Context, asked []byte) (answer renewal, err error) {
	m, err := r.founded()
	if err != nil {
		return answer, err
	}
	var ask renewal
	if err := json.Unmarshal(asked, &ask); err != nil {
		return answer, fmt.Errorf("%w: the request cannot be read", ErrInput)
	}
	request, err := parseRequest(ask.Request)
	if err != nil {
		return answer, err
	}
	old, err := parseCertificate(ask.Certificate)
	if err != nil {
		return answer, fmt.Errorf("%w: %w", ErrInput, err)
	}
	role, err := r.entitled(ctx, m, old, request)
	if err != nil {
		return answer, err
	}
	der, err := m.sign.issue(request.PublicKey, old.Subject.CommonName, role, r.now())
	return renewal{Certificate: asPEM(der)}, err
}

// entitled is the role that a certificate is renewed for: its own, if it counts still.
func (r *Registry) entitled(ctx context.Context, m *Member, old *x509.Certificate, request *x509.CertificateRequest) (Role, error) {
	options := x509.VerifyOptions{Roots: m.roots, CurrentTime: r.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := old.Verify(options); err != nil {
		return "", fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if key, ok := old.PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(request.PublicKey) {
		return "", fmt.Errorf("%w: the request is for another key than the certificate", ErrRefused)
	}
	var a appliance
	_, err := r.records().Load(ctx, appliancesPrefix+old.Subject.CommonName, &a)
	if errors.Is(err, auth.ErrNotFound) || err == nil && a.Key != keyPrint(old.RawSubjectPublicKeyInfo) {
		return "", fmt.Errorf("%w: %s was removed", ErrRefused, old.Subject.CommonName)
	}
	return a.Role, err
}

// Due tells whether this appliance's certificate is to be renewed.
func (m *Member) Due() bool {
	c := m.shown.Load().Leaf
	return m.now().After(c.NotAfter.Add(renewed - life))
}

// Refresh renews this appliance's certificate, of its own authority or by asking one that
// votes, and shows the new one from then on.
func (m *Member) Refresh(ctx context.Context, ask func(ctx context.Context, text []byte) ([]byte, error)) error {
	key := m.shown.Load().PrivateKey.(*ecdsa.PrivateKey)
	var fresh string
	if m.sign != nil {
		der, err := m.sign.issue(key.Public(), m.kept.ID, Voting, m.now())
		if err != nil {
			return err
		}
		fresh = asPEM(der)
	} else {
		var err error
		if fresh, err = m.asked(ctx, key, ask); err != nil {
			return err
		}
	}
	return m.replace(fresh)
}

func (m *Member) asked(ctx context.Context, key *ecdsa.PrivateKey, ask func(context.Context, []byte) ([]byte, error)) (string, error) {
	r, err := request(key, m.kept.ID)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(renewal{Certificate: m.kept.Certificate, Request: r})
	if err != nil {
		return "", err
	}
	said, err := ask(ctx, text)
	if err != nil {
		return "", err
	}
	var answer renewal
	if err := json.Unmarshal(said, &answer); err != nil {
		return "", fmt.Errorf("the hub's answer: %w", err)
	}
	if answer.Refused != "" {
		return "", errors.New(answer.Refused)
	}
	return answer.Certificate, nil
}

// replace keeps and shows a renewed certificate, if it is one.
func (m *Member) replace(fresh string) error {
	c, err := parseCertificate(fresh)
	if err != nil {
		return err
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: m.roots, CurrentTime: m.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("the renewed certificate: %w", err)
	}
	if key := m.shown.Load().PrivateKey.(*ecdsa.PrivateKey); !key.PublicKey.Equal(c.PublicKey) {
		return errors.New("the renewed certificate is for another key")
	}
	m.kept.Certificate = fresh
	if err := writeKept(filepath.Join(m.folder, memberFile), m.kept); err != nil {
		return err
	}
	return m.show()
}
