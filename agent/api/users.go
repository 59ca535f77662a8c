package api

import (
	"context"
	"fmt"
	"slices"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// ListUsers implements listUsers.
func (s *server) ListUsers(ctx context.Context, _ ListUsersRequestObject) (ListUsersResponseObject, error) {
	users, err := s.Gate.Users(ctx, principal(ctx))
	list := []model.User{}
	for _, u := range users {
		list = append(list, user(u))
	}
	return ListUsers200JSONResponse{Items: list}, err
}

func user(u auth.User) model.User {
	return model.User{Name: u.Name, Role: model.Role(u.Role.String()), Disabled: u.Disabled, Created: u.Created, PasswordSet: u.Password}
}

// user is one, as they are now.
func (s *server) user(ctx context.Context, name string) (model.User, error) {
	users, err := s.Gate.Users(ctx, principal(ctx))
	if err != nil {
		return model.User{}, err
	}
	i := slices.IndexFunc(users, func(u auth.User) bool { return u.Name == name })
	if i < 0 { // somebody has removed them meanwhile
		return model.User{}, fmt.Errorf("the user %w", auth.ErrNotFound)
	}
	return user(users[i]), nil
}

// CreateUser implements createUser.
func (s *server) CreateUser(ctx context.Context, r CreateUserRequestObject) (CreateUserResponseObject, error) {
	role, err := auth.ParseRole(string(r.Body.Role))
	if err != nil {
		return nil, err
	}
	if err := s.Gate.CreateUser(ctx, principal(ctx), r.Body.Name, role, r.Body.Password); err != nil {
		return nil, err
	}
	u, err := s.user(ctx, r.Body.Name)
	return CreateUser201JSONResponse(u), err
}

// ChangeUser implements changeUser.
func (s *server) ChangeUser(ctx context.Context, r ChangeUserRequestObject) (ChangeUserResponseObject, error) {
	if err := s.changeUser(ctx, r.Name, *r.Body); err != nil {
		return nil, err
	}
	u, err := s.user(ctx, r.Name)
	return ChangeUser200JSONResponse(u), err
}

// changeUser does the one thing that is asked for.
func (s *server) changeUser(ctx context.Context, name string, c model.ChangeUserJSONRequestBody) error {
	by := principal(ctx)
	switch {
	case c.Disabled != nil && *c.Disabled:
		return s.Gate.DisableUser(ctx, by, name)
	case c.Disabled != nil:
		return s.Gate.EnableUser(ctx, by, name)
	case c.Password != "":
		return s.Gate.SetPassword(ctx, by, name, c.Password)
	}
	role, err := auth.ParseRole(string(c.Role))
	if err != nil {
		return err
	}
	return s.Gate.SetRole(ctx, by, name, role)
}

// RemoveUser implements removeUser.
func (s *server) RemoveUser(ctx context.Context, r RemoveUserRequestObject) (RemoveUserResponseObject, error) {
	return RemoveUser204Response{}, s.Gate.RemoveUser(ctx, principal(ctx), r.Name)
}

// EndSessions implements endSessions.
func (s *server) EndSessions(ctx context.Context, r EndSessionsRequestObject) (EndSessionsResponseObject, error) {
	return EndSessions204Response{}, s.Gate.EndSessions(ctx, principal(ctx), r.Name)
}
