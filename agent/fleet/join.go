package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/seal"
	"hyper2kvm/fixers/guest"
)

// joinTime is how long one address of a hub is tried.
const joinTime = 20 * time.Second

// Join makes this appliance a member of the fleet that a token is of: with a key that
// never leaves it. One that is a member already is so anew.
func Join(ctx context.Context, state, id, name string, sealer *seal.Sealer, text guest.Secret) (*Member, error) {
	t, err := parseToken(text)
	if err != nil {
		return nil, err
	}
	key, sealed, err := newKey(sealer)
	if err != nil {
		return nil, err
	}
	asked, err := request(key, id)
	if err != nil {
		return nil, err
	}
	got, err := t.ask(ctx, model.JoinRequest{Invitation: t.Invitation, Secret: t.Secret, Name: name, Request: asked})
	if err != nil {
		return nil, err
	}
	k := keptMember{ID: id, Role: Role(got.Role), Authority: got.Authority, Certificate: got.Certificate, Key: sealed, Hubs: got.Hubs, Shared: sealer.Seal(sharedKeys, got.Shared)}
	return k.enter(state, sealer, got.AuthorityKey)
}

// enter keeps what an appliance got that has joined.
func (k keptMember) enter(state string, sealer *seal.Sealer, authorityKey []byte) (*Member, error) {
	if err := k.Role.check(); err != nil {
		return nil, err
	}
	if k.Role == Voting {
		a, err := parseAuthority(k.Authority, authorityKey)
		if err != nil {
			return nil, fmt.Errorf("the hub's answer: %w", err)
		}
		if err := a.keep(Folder(state), sealer); err != nil {
			return nil, err
		}
	}
	if err := writeKept(filepath.Join(Folder(state), memberFile), k); err != nil {
		return nil, err
	}
	return Open(state, sealer)
}

// ask asks the hub at each of its addresses, until one answers.
func (t token) ask(ctx context.Context, r model.JoinRequest) (got model.Joined, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return got, err
	}
	for _, address := range t.Addresses {
		got, failed := t.askAt(ctx, address, body)
		if failed == nil {
			return got, nil
		}
		err = errors.Join(err, fmt.Errorf("join at %s: %w", address, failed))
		if errors.Is(failed, ErrToken) {
			return got, err
		}
	}
	return got, err
}

func (t token) askAt(ctx context.Context, address string, body []byte) (got model.Joined, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/api/v1/appliances/join", bytes.NewReader(body))
	if err != nil {
		return got, err
	}
	r.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: t.pinned(), DisableKeepAlives: true}
	reply, err := transport.RoundTrip(r) // which follows no redirection, and asks no proxy
	if err != nil {
		return got, err
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxKept))
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		return got, err
	}
	if reply.StatusCode == http.StatusOK {
		return got, json.Unmarshal(text, &got)
	}
	return got, refusal(reply.StatusCode, text)
}

// refusal is what a hub says that does not let in.
func refusal(status int, text []byte) error {
	var p model.Problem
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		return fmt.Errorf("%w: it answers with the status %d", ErrNotFleet, status)
	}
	if p.Code == "bad-token" {
		return fmt.Errorf("%w (the hub says: %s)", ErrToken, p.Detail)
	}
	return errors.New(p.Detail)
}

// pinned trusts the one certificate that the token names, whoever signed it and
// whatever names it has.
func (t token) pinned() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		sum := sha256.Sum256(s.PeerCertificates[0].Raw)
		if subtle.ConstantTimeCompare(sum[:], t.Print) != 1 {
			return fmt.Errorf("%w: who answers shows another certificate than the token names; if the hub's certificate was changed, ask for another token; else somebody is in between", ErrToken)
		}
		return nil
	}}
}
