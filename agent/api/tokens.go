package api

import (
	"context"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// ListTokens implements listTokens.
func (s *server) ListTokens(ctx context.Context, _ ListTokensRequestObject) (ListTokensResponseObject, error) {
	tokens, err := s.Gate.Tokens(ctx, principal(ctx))
	list := []model.Token{}
	for _, t := range tokens {
		list = append(list, token(t))
	}
	return ListTokens200JSONResponse{Items: list}, err
}

func token(t auth.Token) model.Token {
	return model.Token{ID: t.ID, Name: t.Name, Owner: t.Owner, Role: model.Role(t.Role.String()), Scopes: scopes(t.Scopes), Created: t.Created, Expires: t.Expires, Used: t.Used}
}

// CreateToken implements createToken.
func (s *server) CreateToken(ctx context.Context, r CreateTokenRequestObject) (CreateTokenResponseObject, error) {
	role, err := auth.ParseRole(string(r.Body.Role))
	if err != nil {
		return nil, err
	}
	n := auth.NewToken{Name: r.Body.Name, Role: role, Life: time.Duration(r.Body.Life) * time.Second}
	for _, scope := range r.Body.Scopes {
		n.Scopes = append(n.Scopes, auth.Scope(scope))
	}
	text, t, err := s.Gate.CreateToken(ctx, principal(ctx), n)
	if err != nil {
		return nil, err
	}
	defer text.Wipe()
	return CreateToken201JSONResponse{Text: string(text), Token: token(t)}, nil
}

// RevokeToken implements revokeToken.
func (s *server) RevokeToken(ctx context.Context, r RevokeTokenRequestObject) (RevokeTokenResponseObject, error) {
	return RevokeToken204Response{}, s.Gate.RevokeToken(ctx, principal(ctx), r.Token)
}
