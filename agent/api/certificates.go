package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// ListCertificates implements listCertificates.
func (s *server) ListCertificates(ctx context.Context, _ ListCertificatesRequestObject) (ListCertificatesResponseObject, error) {
	certificates, err := s.Gate.Certificates(ctx, principal(ctx))
	list := []model.Certificate{}
	for _, c := range certificates {
		list = append(list, certificate(c))
	}
	return ListCertificates200JSONResponse{Items: list}, err
}

func certificate(c auth.Certificate) model.Certificate {
	return model.Certificate{Name: c.Name, Fingerprint: c.Fingerprint, Role: model.Role(c.Role.String()), Added: c.Added, Expires: c.Expires, Seeded: c.Seeded}
}

// AddCertificate implements addCertificate.
func (s *server) AddCertificate(ctx context.Context, r AddCertificateRequestObject) (AddCertificateResponseObject, error) {
	fingerprint, err := fingerprint(r.Body.Pem, r.Body.Fingerprint)
	if err != nil {
		return nil, err
	}
	role, err := auth.ParseRole(string(r.Body.Role))
	if err != nil {
		return nil, err
	}
	c := auth.Certificate{Name: r.Body.Name, Fingerprint: fingerprint, Role: role, Expires: r.Body.Expires}
	if err := s.Gate.AddCertificate(ctx, principal(ctx), c); err != nil {
		return nil, err
	}
	added, err := s.certificate(ctx, fingerprint)
	return AddCertificate201JSONResponse(added), err
}

// certificate is one, as it is now.
func (s *server) certificate(ctx context.Context, fingerprint string) (model.Certificate, error) {
	all, err := s.Gate.Certificates(ctx, principal(ctx))
	if err != nil {
		return model.Certificate{}, err
	}
	i := slices.IndexFunc(all, func(c auth.Certificate) bool { return c.Fingerprint == fingerprint })
	if i < 0 { // somebody has removed it meanwhile
		return model.Certificate{}, fmt.Errorf("the certificate %w", auth.ErrNotFound)
	}
	return certificate(all[i]), nil
}

// fingerprint is that of a certificate, of which one of the two is given.
func fingerprint(text, given string) (string, error) {
	switch {
	case (text == "") == (given == ""):
		return "", fmt.Errorf("%w: give either pem or fingerprint", auth.ErrInput)
	case given != "":
		return strings.ToLower(strings.ReplaceAll(given, ":", "")), nil
	}
	c, err := parsePEM([]byte(text))
	if err != nil {
		return "", fmt.Errorf("%w: %w", auth.ErrInput, err)
	}
	return auth.Fingerprint(c), nil
}

// parsePEM is the one certificate that a client shows. What is more than that is not
// taken: a chain counts for nothing, and a key is not to leave its owner.
func parsePEM(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("pem holds no certificate: it begins with -----BEGIN CERTIFICATE-----")
	case strings.Contains(string(text), "PRIVATE KEY"):
		return nil, fmt.Errorf("pem holds a private key, which is now known to more than its owner: make another one, and send the certificate alone")
	case block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "":
		return nil, fmt.Errorf("pem holds something besides one certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pem holds a certificate that cannot be read: %w", err)
	}
	if time.Now().After(c.NotAfter) {
		return nil, fmt.Errorf("the certificate has run out on %s", c.NotAfter.Format(time.DateOnly))
	}
	return c, nil
}

// RemoveCertificate implements removeCertificate.
func (s *server) RemoveCertificate(ctx context.Context, r RemoveCertificateRequestObject) (RemoveCertificateResponseObject, error) {
	return RemoveCertificate204Response{}, s.Gate.RemoveCertificate(ctx, principal(ctx), r.Fingerprint)
}
