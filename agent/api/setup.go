package api

import (
	"context"
	"errors"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// errBegun is of a code that is worth nothing.
var errBegun = errors.New("somebody has or had access already, so there is no code")

// MakeFirstCode implements makeFirstCode.
func (s *server) MakeFirstCode(ctx context.Context, _ MakeFirstCodeRequestObject) (MakeFirstCodeResponseObject, error) {
	code, err := s.Gate.FirstCode(ctx)
	if err != nil {
		return nil, err
	}
	if len(code) == 0 {
		return nil, errBegun
	}
	defer code.Wipe()
	return MakeFirstCode200JSONResponse{Code: string(code)}, nil
}

// MakeFirstAdmin implements makeFirstAdmin.
func (s *server) MakeFirstAdmin(ctx context.Context, r MakeFirstAdminRequestObject) (MakeFirstAdminResponseObject, error) {
	session, err := s.Gate.FirstAdmin(ctx, origin(ctx), r.Body.Code, r.Body.Name, r.Body.Password)
	return MakeFirstAdmin200JSONResponse{loggedIn(session)}, err
}

// loggedIn hands a session to a browser.
func loggedIn(s auth.Session) LoggedInJSONResponse {
	return LoggedInJSONResponse{Body: shown(s.Principal), Headers: LoggedInResponseHeaders{SetCookie: s.Cookie().String()}}
}

// shown is a principal as the API tells of them.
func shown(p auth.Principal) model.Session {
	return model.Session{Name: p.Name, Role: model.Role(p.Role.String()), By: model.By(p.By), Scopes: scopes(p.Scopes), Until: p.Until}
}

func scopes(list []auth.Scope) (words []model.Scope) {
	for _, s := range list {
		words = append(words, model.Scope(s))
	}
	return words
}
