package api

import (
	"context"
	"errors"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/fleet"
)

// errExternal is an appliance whose fellows are known to another NATS.
var errExternal = errors.New("appliances that share an existing NATS join by its URL and credentials: write them into engine.external of the new appliance's settings")

// registry is the fleet's, if appliances join one another here.
func (s *server) registry() (*fleet.Registry, error) {
	if s.Fleet == nil {
		return nil, errExternal
	}
	return s.Fleet, nil
}

func shownInvitation(i fleet.Invitation) model.Invitation {
	return model.Invitation{ID: i.ID, Role: model.FleetRole(i.Role), By: i.By, Created: i.Created, Expires: i.Expires, Used: i.Used, Appliance: i.Joined}
}

// ListInvitations implements listInvitations.
func (s *server) ListInvitations(ctx context.Context, _ ListInvitationsRequestObject) (ListInvitationsResponseObject, error) {
	f, err := s.registry()
	if err != nil {
		return nil, err
	}
	list, err := f.Invitations(ctx)
	items := []model.Invitation{}
	for _, i := range list {
		items = append(items, shownInvitation(i))
	}
	return ListInvitations200JSONResponse{Items: items}, err
}

// Invite implements invite.
func (s *server) Invite(ctx context.Context, r InviteRequestObject) (InviteResponseObject, error) {
	f, err := s.registry()
	if err != nil {
		return nil, err
	}
	n := fleet.NewInvitation{Role: fleet.Role(r.Body.Role), Addresses: r.Body.Addresses, Life: time.Duration(r.Body.Seconds) * time.Second}
	token, i, err := f.Invite(ctx, principal(ctx), n)
	if err != nil {
		return nil, err
	}
	return Invite201JSONResponse{Token: string(token), Invitation: shownInvitation(i)}, nil
}

// WithdrawInvitation implements withdrawInvitation.
func (s *server) WithdrawInvitation(ctx context.Context, r WithdrawInvitationRequestObject) (WithdrawInvitationResponseObject, error) {
	f, err := s.registry()
	if err == nil {
		err = f.Withdraw(ctx, principal(ctx), r.Invitation)
	}
	return WithdrawInvitation204Response{}, err
}

// JoinFleet implements joinFleet.
func (s *server) JoinFleet(ctx context.Context, r JoinFleetRequestObject) (JoinFleetResponseObject, error) {
	f, err := s.registry()
	if err != nil {
		return nil, err
	}
	from := origin(ctx)
	ended, err := s.Gate.Attempt(from)
	if err != nil {
		return nil, err
	}
	got, err := f.Admit(ctx, principal(ctx).From, fleet.Asking{Invitation: r.Body.Invitation, Secret: r.Body.Secret, Name: r.Body.Name, Request: r.Body.Request})
	if errors.Is(err, fleet.ErrToken) {
		ended(auth.ErrNoCode)
	} else {
		ended(err)
	}
	return JoinFleet200JSONResponse{Role: model.FleetRole(got.Role), Certificate: got.Certificate, Authority: got.Authority, AuthorityKey: got.AuthorityKey, Shared: got.Shared, Hubs: got.Hubs}, err
}

// RemoveAppliance implements removeAppliance.
func (s *server) RemoveAppliance(ctx context.Context, r RemoveApplianceRequestObject) (RemoveApplianceResponseObject, error) {
	f, err := s.registry()
	if err == nil {
		err = f.Remove(ctx, principal(ctx), r.Appliance)
	}
	return RemoveAppliance204Response{}, err
}
