package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"regexp"
	"time"

	"hyper2kvm/agent/seal"
)

// authority signs the certificates of a fleet.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// keptAuthority is the file that holds one.
type keptAuthority struct {
	Certificate string `json:"certificate"` // PEM
	Key         []byte `json:"key"`         // PKCS #8, sealed
}

const (
	authorityFile = "authority.json"
	authorityName = "fleet-authority" // that its key is sealed for
)

// newAuthority is of a new fleet.
func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "hyper2kvm fleet " + rand.Text()[:8]},
		NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife), IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &authority{c, key}, err
}

// serial is a certificate's number, of 127 random bits.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil { // rand.Reader does not fail
		panic(err)
	}
	return n
}

// loadAuthority is the one that is kept in a folder; fs.ErrNotExist if there is none.
func loadAuthority(folder string, sealer *seal.Sealer) (*authority, error) {
	path := filepath.Join(folder, authorityFile)
	var k keptAuthority
	if err := readKept(path, &k); err != nil {
		return nil, err
	}
	der, err := sealer.Open(authorityName, k.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer der.Wipe()
	return parseAuthority(k.Certificate, der)
}

func parseAuthority(certificate string, der []byte) (*authority, error) {
	c, err := parseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(der)
	if err == nil && !key.PublicKey.Equal(c.PublicKey) {
		err = errors.New("the authority's key is not its certificate's")
	}
	return &authority{c, key}, err
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not an ECDSA key")
	}
	return key, nil
}

func (a *authority) keep(folder string, sealer *seal.Sealer) error {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	defer clear(der)
	return writeKept(filepath.Join(folder, authorityFile), keptAuthority{asPEM(a.certificate.Raw), sealer.Seal(authorityName, der)})
}

// openAuthority is the one of a folder, or a new one if there is none.
func openAuthority(folder string, sealer *seal.Sealer, now time.Time) (*authority, error) {
	a, err := loadAuthority(folder, sealer)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if a, err = newAuthority(now); err != nil {
		return nil, err
	}
	return a, a.keep(folder, sealer)
}

// servingName is in the certificates of voting appliances, by whatever address they are
// reached: clients look for it, so that a worker cannot stand in for a hub.
const servingName = "voting.hyper2kvm.internal"

var applianceID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// issue signs a certificate for an appliance's key.
func (a *authority) issue(public any, id string, role Role, now time.Time) ([]byte, error) {
	if !applianceID.MatchString(id) {
		return nil, fmt.Errorf("%w: %q is no ID of an appliance", ErrInput, id)
	}
	template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: id}, NotBefore: now.Add(-skew), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	if role == Voting {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.DNSNames = []string{servingName}
	}
	return x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
}

// parseRequest is a certificate request whose maker has the key that it is for.
func parseRequest(text string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("%w: there is no certificate request", ErrInput)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the certificate request: %w", ErrInput, err)
	}
	if key, ok := r.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: the certificate request is not for an ECDSA key on P-256", ErrInput)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: the certificate request is not signed by its key", ErrInput)
	}
	return r, nil
}

// request is one for a key, PEM.
func request(key *ecdsa.PrivateKey, id string) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func asPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// keyPrint tells a certificate's key from others.
func keyPrint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}
