package firstboot

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// block is a PEM block whose lines may have become one: what people paste into a field
// of one line has blanks where the lines ended.
var block = regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END ([A-Z0-9 ]{1,40})-----`)

const pemLine = 64 // characters

// blocks are the PEM blocks in a text.
func blocks(text string) (list []*pem.Block) {
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		body := strings.Join(strings.Fields(m[2]), "")
		var whole strings.Builder
		fmt.Fprintf(&whole, "-----BEGIN %s-----\n", m[1])
		for line := range slices.Chunk([]byte(body), pemLine) {
			whole.Write(line)
			whole.WriteByte('\n')
		}
		fmt.Fprintf(&whole, "-----END %s-----\n", m[3])
		if b, _ := pem.Decode([]byte(whole.String())); b != nil {
			list = append(list, b)
		}
	}
	return list
}

// certificates are those in a PEM text.
func certificates(text string) (list []*x509.Certificate, err error) {
	for _, b := range blocks(text) {
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s: write certificates alone", strings.ToLower(b.Type))
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate %d is damaged: copy it whole", len(list)+1)
		}
		list = append(list, c)
	}
	if len(list) == 0 || len(list) > mostValues {
		return nil, fmt.Errorf("has %d certificates: write 1 to %d in PEM, each from its line -----BEGIN CERTIFICATE----- on", len(list), mostValues)
	}
	return list, nil
}

func takeTrust(s *Settings, text string) (err error) {
	s.Trust, err = certificates(text)
	return err
}

func takeAuthorities(s *Settings, text string) (err error) {
	s.Authorities, err = certificates(text)
	return err
}

func takeCertificate(s *Settings, text string) error {
	list, err := certificates(text)
	if err != nil {
		return err
	}
	s.Certificate = encode(list)
	return nil
}

func encode(list []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func takeKey(s *Settings, text string) error {
	list := slices.DeleteFunc(blocks(text), func(b *pem.Block) bool { return b.Type == "EC PARAMETERS" })
	switch {
	case strings.Contains(text, "ENCRYPTED"):
		return errors.New("is encrypted: take its passphrase away with openssl pkey -in FILE -out FILE")
	case len(list) != 1 || !strings.HasSuffix(list[0].Type, "PRIVATE KEY"):
		return errors.New("is no private key: write one in PEM, from its line -----BEGIN PRIVATE KEY----- on")
	}
	s.Key = pem.EncodeToMemory(list[0])
	return nil
}

// pair tells what a certificate and its key lack.
func (s *Settings) pair() error {
	switch {
	case len(s.Certificate) == 0 && len(s.Key) == 0:
		return nil
	case len(s.Key) == 0:
		return errors.New("there is a certificate without its key: say key too")
	case len(s.Certificate) == 0:
		return errors.New("there is a key without its certificate: say certificate too")
	}
	if _, err := tls.X509KeyPair(s.Certificate, s.Key); err != nil {
		return errors.New("the key is not the certificate's: give both of one pair, and the appliance's certificate before its chain")
	}
	return nil
}
