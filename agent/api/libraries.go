package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/library"
	"hyper2kvm/agent/upload"
)

// Libraries are those of this appliance, and their uploads.
type Libraries struct {
	Shelf   *library.Shelf
	Uploads *upload.Receiver
}

// ListLibraries implements listLibraries.
func (s *server) ListLibraries(context.Context, ListLibrariesRequestObject) (ListLibrariesResponseObject, error) {
	list, err := s.Libraries.Shelf.List()
	return ListLibraries200JSONResponse{Items: list}, err
}

// putLibrary implements putLibrary.
func (s *server) putLibrary(c echo.Context) error {
	name, r := c.Param("library"), c.Request()
	p, err := partOf(r)
	if err != nil {
		return err
	}
	if p.Size > library.MaxUpload {
		return fmt.Errorf("%w: it has %d bytes, and a library %d at most", upload.ErrInput, p.Size, int64(library.MaxUpload))
	}
	var added model.Library
	u, err := s.receive(c, s.Libraries.Uploads, name, s.Libraries.Shelf.Accept(name, principal(r.Context()).Name, &added))
	if err != nil {
		return err
	}
	if added.Name == "" {
		c.Set(partKey, true)
		return c.JSON(http.StatusAccepted, uploadOf(u, name))
	}
	return c.JSON(http.StatusOK, added)
}

// readLibraryUpload implements readLibraryUpload.
func (s *server) readLibraryUpload(c echo.Context) error {
	name := c.Param("library")
	u, err := s.Libraries.Uploads.Read(name)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	return c.JSON(http.StatusOK, uploadOf(u, name))
}

// RemoveLibrary implements removeLibrary.
func (s *server) RemoveLibrary(_ context.Context, r RemoveLibraryRequestObject) (RemoveLibraryResponseObject, error) {
	return RemoveLibrary204Response{}, s.Libraries.Shelf.Remove(string(r.Library))
}

// DropLibraryUpload implements dropLibraryUpload.
func (s *server) DropLibraryUpload(_ context.Context, r DropLibraryUploadRequestObject) (DropLibraryUploadResponseObject, error) {
	return DropLibraryUpload204Response{}, s.Libraries.Uploads.Drop(string(r.Library))
}
