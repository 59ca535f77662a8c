package api

import (
	"context"
	"io"
	"mime"
	"net/http"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/seal"
)

// archive is an answer that is written as it is made.
type archive struct {
	server  *server
	name    string
	kind    string
	content func(io.Writer) error
	close   func() error
}

// MakeBackup implements makeBackup.
func (s *server) MakeBackup(ctx context.Context, r MakeBackupRequestObject) (MakeBackupResponseObject, error) {
	var passphrase seal.Secret
	if r.Body != nil {
		passphrase = seal.Secret(r.Body.Passphrase)
	}
	defer passphrase.Wipe()
	a, err := s.Backup.Make(ctx, passphrase)
	if err != nil {
		return nil, err
	}
	return archive{s, a.Name(), "application/x-tar", a.Send, a.Close}, nil
}

// MakeSupportBundle implements makeSupportBundle.
func (s *server) MakeSupportBundle(ctx context.Context, r MakeSupportBundleRequestObject) (MakeSupportBundleResponseObject, error) {
	write := func(w io.Writer) error { return s.Bundle.Write(ctx, w, r.Params.Migrations) }
	return archive{s, s.Bundle.Name(), "application/gzip", write, func() error { return nil }}, nil
}

// VisitMakeBackupResponse implements MakeBackupResponseObject.
func (a archive) VisitMakeBackupResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitMakeSupportBundleResponse implements MakeSupportBundleResponseObject.
func (a archive) VisitMakeSupportBundleResponse(w http.ResponseWriter) error { return a.write(w) }

// write answers with the archive. One that does not come to its end is cut off, so that
// nobody takes it for a whole one.
func (a archive) write(w http.ResponseWriter) error {
	defer func() {
		if err := a.close(); err != nil {
			a.server.Log.Warn("what was made for an archive was not removed", "name", a.name, "err", err)
		}
	}()
	w.Header().Set(echo.HeaderContentType, a.kind)
	w.Header().Set(echo.HeaderContentDisposition, mime.FormatMediaType("attachment", map[string]string{"filename": a.name}))
	if err := a.content(&patient{ResponseWriter: w, control: http.NewResponseController(w)}); err != nil {
		a.server.Log.Warn("an archive was not sent whole", "name", a.name, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
