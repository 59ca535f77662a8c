package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/seal"
)

// provider is whom people log in with by the settings; nil if there is none. It is made
// anew for each log-in, so that a secret that is put in later counts.
func (a *agent) provider() (api.Provider, error) {
	if a.settings.OIDC == nil {
		return nil, nil
	}
	way, err := reaching(a.settings.OIDC.CA)
	if err != nil {
		return nil, err
	}
	c, err := identity(a.settings.OIDC)
	if err == nil {
		_, err = a.gate.Provider(c, way)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: oidc: %w", config.ErrSettings, err)
	}
	return func(ctx context.Context) (*auth.Provider, error) {
		c, err := identity(a.settings.OIDC)
		if err != nil {
			return nil, err
		}
		if c.Secret, err = a.clientSecret(ctx); err != nil {
			return nil, err
		}
		defer c.Secret.Wipe()
		return a.gate.Provider(c, way)
	}, nil
}

func (a *agent) clientSecret(ctx context.Context) (seal.Secret, error) {
	name := a.settings.OIDC.Secret
	if name == "" {
		return nil, nil
	}
	secret, err := a.secrets.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("the client's secret for the identity provider: %v", err) // why is not for whoever logs in
	}
	return secret, nil
}

// reaching is the way to a provider whose certificate the authorities of a file sign, or
// those that the system knows.
func reaching(ca string) (http.RoundTripper, error) {
	way := http.DefaultTransport.(*http.Transport).Clone()
	way.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return way, nil
	}
	var err error
	way.TLSClientConfig.RootCAs, err = authorities("oidc.ca", ca)
	return way, err
}

// authorities are those of a file that a setting names.
func authorities(setting, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", config.ErrSettings, setting, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: %s: %s holds no certificate in PEM", config.ErrSettings, setting, file)
	}
	return pool, nil
}

// identity is the settings' part of what a provider is made with.
func identity(o *config.OIDC) (auth.OIDC, error) {
	c := auth.OIDC{Issuer: o.Issuer, Client: o.ClientID, Redirect: o.Redirect, Scopes: o.Scopes, NameClaim: o.NameClaim, RoleClaim: o.Claim, Roles: map[string]auth.Role{}}
	for group, name := range o.Roles {
		role, err := auth.ParseRole(name)
		if err != nil {
			return c, err
		}
		c.Roles[group] = role
	}
	return c, nil
}
