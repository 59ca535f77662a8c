package transport

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// config is how a client shows itself and knows the host at an address.
func (s *SSH) config(address string) (*ssh.ClientConfig, error) {
	auth, err := s.auth()
	if err != nil {
		return nil, err
	}
	c := &ssh.ClientConfig{User: s.User, Auth: auth, HostKeyCallback: s.byFingerprint}
	if s.Fingerprint != "" {
		return c, nil
	}
	known, err := knownhosts.New(s.HostKeys)
	if err != nil {
		return nil, fmt.Errorf("%w over SSH: the hosts' keys: %w", ErrUnusable, err)
	}
	c.HostKeyAlgorithms = algorithms(known, address)
	c.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		return s.strange(known(host, remote, key), key)
	}
	return c, nil
}

// auth are the ways to log in that there is something for.
func (s *SSH) auth() (ways []ssh.AuthMethod, err error) {
	if s.Key != "" {
		signer, err := readKey(s.Key)
		if err != nil {
			return nil, fmt.Errorf("%w over SSH: the private key: %w", ErrUnusable, err)
		}
		ways = append(ways, ssh.PublicKeys(signer))
	}
	if s.Password != nil {
		password := func() (string, error) { return s.Password(), nil }
		ways = append(ways, ssh.PasswordCallback(password), ssh.KeyboardInteractive(s.answer))
	}
	return ways, nil
}

func readKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("%s has a passphrase: give one without, that only its owner may read", file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return signer, nil
}

// answer answers an ESXi host's questions, of which there is one: the password. What is
// shown as it is typed is none. Source: RFC 4256, section 3.2.
func (s *SSH) answer(_, _ string, questions []string, echo []bool) ([]string, error) {
	answers := make([]string, len(questions))
	for i := range questions {
		if !echo[i] {
			answers[i] = s.Password()
		}
	}
	return answers, nil
}

// byFingerprint takes a host with the one key that is pinned.
func (s *SSH) byFingerprint(host string, _ net.Addr, key ssh.PublicKey) error {
	if got := ssh.FingerprintSHA256(key); got != s.Fingerprint {
		return fmt.Errorf("%w over SSH: the host's %s key has the fingerprint %s and not %s, which is pinned: if the host was installed anew, pin the new one", ErrUnusable, key.Type(), got, s.Fingerprint)
	}
	return nil
}

// strange says why a host is not one of the known ones.
func (s *SSH) strange(err error, key ssh.PublicKey) error {
	unlike, ok := errors.AsType[*knownhosts.KeyError](err)
	switch {
	case err == nil:
		return nil
	case ok && len(unlike.Want) > 0:
		return fmt.Errorf("%w over SSH: the host's %s key, with the fingerprint %s, is not the one in %s:%d: if the host was installed anew, put its new key there", ErrUnusable, key.Type(), ssh.FingerprintSHA256(key), s.HostKeys, unlike.Want[0].Line)
	case ok:
		return fmt.Errorf("%w over SSH: %s has no key of the host: put its %s key there, if %s is its fingerprint", ErrUnusable, s.HostKeys, key.Type(), ssh.FingerprintSHA256(key))
	}
	return fmt.Errorf("%w over SSH: %w", ErrUnusable, err)
}

// algorithms are those of the keys that are known of a host, so that it shows one of
// them; nil if none is. A known key is told by one that cannot be.
func algorithms(known ssh.HostKeyCallback, address string) (list []string) {
	unlike, ok := errors.AsType[*knownhosts.KeyError](known(address, &net.TCPAddr{}, noKey{}))
	if !ok {
		return nil
	}
	for _, want := range unlike.Want {
		if kind := want.Key.Type(); kind == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			list = append(list, kind)
		}
	}
	return list
}

// noKey is the key of no host.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
