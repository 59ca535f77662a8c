package api

import (
	"context"
	"errors"
	"fmt"

	"hyper2kvm/agent/auth"
)

// ReadSession implements readSession.
func (s *server) ReadSession(ctx context.Context, _ ReadSessionRequestObject) (ReadSessionResponseObject, error) {
	return ReadSession200JSONResponse(shown(principal(ctx))), nil
}

// LogIn implements logIn.
func (s *server) LogIn(ctx context.Context, r LogInRequestObject) (LogInResponseObject, error) {
	session, err := s.Gate.Login(ctx, origin(ctx), r.Body.Name, r.Body.Password)
	return LogIn200JSONResponse{loggedIn(session)}, err
}

// LogOut implements logOut.
func (s *server) LogOut(ctx context.Context, _ LogOutRequestObject) (LogOutResponseObject, error) {
	err := s.Gate.Logout(ctx, principal(ctx))
	if errors.Is(err, auth.ErrForbidden) {
		err = fmt.Errorf("%w: there is no session to end, since none was shown", err)
	}
	return LogOut204Response{Headers: LogOut204ResponseHeaders{SetCookie: auth.NoCookie().String()}}, err
}

// ChangePassword implements changePassword.
func (s *server) ChangePassword(ctx context.Context, r ChangePasswordRequestObject) (ChangePasswordResponseObject, error) {
	session, err := s.Gate.ChangePassword(ctx, principal(ctx), r.Body.Current, r.Body.Password)
	if errors.Is(err, auth.ErrForbidden) {
		err = fmt.Errorf("%w: it takes a session that was begun with a password", err)
	}
	return ChangePassword200JSONResponse{loggedIn(session)}, err
}
