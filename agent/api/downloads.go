package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/fleet"
)

// ListDownloads implements listDownloads.
func (s *server) ListDownloads(context.Context, ListDownloadsRequestObject) (ListDownloadsResponseObject, error) {
	return ListDownloads200JSONResponse{Items: s.Downloads.List()}, nil
}

// ReadDownload implements readDownload.
func (s *server) ReadDownload(_ context.Context, r ReadDownloadRequestObject) (ReadDownloadResponseObject, error) {
	d, err := s.Downloads.Find(r.Download)
	return ReadDownload200JSONResponse(d), err
}

// RemoveDownload implements removeDownload.
func (s *server) RemoveDownload(_ context.Context, r RemoveDownloadRequestObject) (RemoveDownloadResponseObject, error) {
	return RemoveDownload204Response{}, s.Downloads.Remove(r.Download)
}

// joinToken is the key of the settings that a token is told by.
const joinToken = "join-token"

// MakeDownload implements makeDownload. An invitation for what cannot be made is withdrawn.
func (s *server) MakeDownload(ctx context.Context, r MakeDownloadRequestObject) (MakeDownloadResponseObject, error) {
	ask := downloads.Request{Form: r.Body.Form, Values: maps.Clone(r.Body.Settings), Life: time.Duration(r.Body.Seconds) * time.Second, By: principal(ctx).Name}
	if r.Body.Base != (model.Place{}) {
		ask.Base = &r.Body.Base
	}
	if ask.Values == nil {
		ask.Values = map[string]string{}
	}
	if r.Body.Join {
		if err := s.inviteInto(ctx, &ask, r.Body.Addresses); err != nil {
			return nil, err
		}
	}
	d, err := s.Downloads.Make(ask)
	if err != nil && r.Body.Join {
		err = errors.Join(err, s.Fleet.Withdraw(ctx, principal(ctx), ask.Invitation))
	}
	return MakeDownload201JSONResponse{Body: d, Headers: MakeDownload201ResponseHeaders{Location: base + "/appliance/downloads/" + d.ID}}, err
}

// inviteInto puts a token into what is asked for.
func (s *server) inviteInto(ctx context.Context, ask *downloads.Request, addresses []string) error {
	f, err := s.registry()
	if err != nil {
		return err
	}
	if ask.Values[joinToken] != "" {
		return fmt.Errorf("%w: join and the setting join-token are two tokens: give one", downloads.ErrInput)
	}
	token, i, err := f.Invite(ctx, principal(ctx), fleet.NewInvitation{Role: fleet.Worker, Addresses: addresses, Life: ask.Life})
	if err != nil {
		return err
	}
	ask.Values[joinToken], ask.Invitation = string(token), i.ID
	return nil
}

// fetchDownload implements fetchDownload.
func (s *server) fetchDownload(c echo.Context) error {
	d, content, err := s.Downloads.Content(c.Param("download"), c.Param("file"))
	if err != nil {
		return err
	}
	defer content.Close()
	if err := s.invited(c.Request().Context(), d.Invitation); err != nil {
		return err
	}
	c.Response().Header().Set("ETag", d.Etag)
	return download(c, d.Name, time.Time{}, content)
}

// invited tells whether an invitation still lets somebody in.
func (s *server) invited(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	list, err := s.Fleet.Invitations(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if i.ID == id && i.Used.IsZero() {
			return nil
		}
		if i.ID == id {
			return fmt.Errorf("%w: the appliance %s has joined with its token: make another one", downloads.ErrGone, i.Joined)
		}
	}
	return fmt.Errorf("%w: its invitation was withdrawn: make another one", downloads.ErrGone)
}
