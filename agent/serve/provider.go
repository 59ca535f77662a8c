package serve

import (
	"context"
	"fmt"

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
	c, err := identity(a.settings.OIDC)
	if err == nil {
		_, err = a.gate.Provider(c, nil)
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
		return a.gate.Provider(c, nil)
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

// identity is the settings' part of what a provider is made with. The scope profile has
// it tell of people's names.
//
// Source: OpenID Connect Core 1.0, section 5.4.
func identity(o *config.OIDC) (auth.OIDC, error) {
	c := auth.OIDC{Issuer: o.Issuer, Client: o.ClientID, Redirect: o.Redirect, Scopes: []string{"profile"}, RoleClaim: o.Claim, Roles: map[string]auth.Role{}}
	for group, name := range o.Roles {
		role, err := auth.ParseRole(name)
		if err != nil {
			return c, err
		}
		c.Roles[group] = role
	}
	return c, nil
}
