package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/config"
)

// newClient is a client's certificate with its key.
func newClient(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pemOf(list ...tls.Certificate) (text []byte) {
	for _, c := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})...)
	}
	return text
}

// asks is what a client gets over HTTPS.
func asks(t *testing.T, address string, c tls.Certificate) int {
	t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}}}}
	reply, err := h.Get("https://" + address + "/api/v1/users")
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode
}

func TestFirstAdminsAreLetInWithoutACode(t *testing.T) {
	folder := t.TempDir()
	marta, stranger := newClient(t, "*marta <it>"), newClient(t, "marta")
	path := filepath.Join(folder, "admins.pem")
	if err := os.WriteFile(path, pemOf(marta, marta), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startedSaying(t, folder, "tls: {firstAdmins: "+path+"}\n", "listening on unix:")
	_, rest, _ := strings.Cut(a.out.String(), "https://")
	address, _, _ := strings.Cut(rest, ",")
	if got := asks(t, address, marta); got != 200 {
		t.Errorf("an admin gets %d", got)
	}
	if got := asks(t, address, stranger); got != 401 {
		t.Errorf("a stranger gets %d", got)
	}
	var list struct{ Items []struct{ Name string } }
	if got := a.get(t, "/certificates", &list); got != 200 || len(list.Items) != 1 || list.Items[0].Name != "marta it" {
		t.Errorf("the certificates are %d, %+v", got, list)
	}
	if strings.Contains(a.out.String(), "nobody has access") {
		t.Errorf("it says %s", a.out)
	}
}

func TestFirstAdminsThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "admins.pem")
	for text, want := range map[string]string{"hello": "holds no certificate in PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "x509: malformed certificate"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &agent{settings: &config.Settings{TLS: config.TLS{FirstAdmins: path}}}
		if err := a.seed(t.Context()); err == nil || !strings.Contains(err.Error(), "tls.firstAdmins: "+path+": "+want) {
			t.Errorf("seed = %v, want %s", err, want)
		}
	}
}
