package fleet

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"hyper2kvm/fixers/guest"
)

// token is what an appliance joins with, as people hand it on.
type token struct {
	Addresses  []string     `json:"a"` // of the hub's API: hosts and ports
	Print      []byte       `json:"f"` // SHA-256 of the API's certificate
	Invitation string       `json:"i"`
	Secret     guest.Secret `json:"-"`
}

const (
	tokenMark    = "h2kjoin_" // for people, and for programs that look for leaked ones
	secretSize   = 32         // bytes
	mostToken    = 4096       // characters
	mostAddress  = 300
	mostOfThem   = 8
	invitationID = 20 // letters of 5 bits
)

// text is a token as it is shown.
func (t token) text() (guest.Secret, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return guest.Secret(tokenMark + base64.RawURLEncoding.EncodeToString(append(t.Secret[:secretSize:secretSize], body...))), nil
}

// parseToken reads a token. The error shows nothing of it.
func parseToken(text guest.Secret) (t token, err error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(string(text)), tokenMark)
	if !ok || len(body) > mostToken {
		return t, fmt.Errorf("%w: it begins with %s: copy it whole", ErrToken, tokenMark)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(data) < secretSize {
		return t, fmt.Errorf("%w: it is damaged: copy it whole", ErrToken)
	}
	if err := json.Unmarshal(data[secretSize:], &t); err != nil || len(t.Print) != 32 || len(t.Addresses) == 0 || len(t.Addresses) > mostOfThem || len(t.Invitation) != invitationID {
		return token{}, fmt.Errorf("%w: it is damaged: copy it whole", ErrToken)
	}
	for _, a := range t.Addresses {
		if err := checkAddress(a); err != nil {
			return token{}, err
		}
	}
	t.Secret = data[:secretSize:secretSize]
	return t, nil
}

// Hosts are those at which the hub of a token can be asked. The error, which wraps
// ErrToken, shows nothing of the token.
func Hosts(text guest.Secret) (hosts []string, err error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, err
	}
	for _, a := range t.Addresses {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return nil, fmt.Errorf("%w: it is damaged: copy it whole", ErrToken)
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

func checkAddress(text string) error {
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 || host == "" || len(text) > mostAddress || strings.ContainsAny(host, "/@?#% ") {
		return fmt.Errorf("%w: %q is no address: want a host and a port, such as 192.0.2.7:8443", ErrInput, text)
	}
	return nil
}

func newSecret() guest.Secret {
	b := make(guest.Secret, secretSize)
	rand.Read(b)
	return b
}
