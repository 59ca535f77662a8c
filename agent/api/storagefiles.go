package api

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/upload"
)

// ListStorageFiles implements listStorageFiles.
func (s *server) ListStorageFiles(_ context.Context, r ListStorageFilesRequestObject) (ListStorageFilesResponseObject, error) {
	place, err := s.Storages.Now().Find(r.Name)
	if err != nil {
		return nil, err
	}
	list, more, err := place.Entries(r.Params.Path, r.Params.Cursor, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	page := ListStorageFiles200JSONResponse{Items: append([]model.StorageFile{}, list...)}
	if more {
		page.Next = list[len(list)-1].Name
	}
	return page, nil
}

// readStorageFile implements readStorageFile.
func (s *server) readStorageFile(c echo.Context) error {
	name, err := named(c)
	if err != nil {
		return err
	}
	place, err := s.Storages.Now().Find(c.Param("name"))
	if err != nil {
		return err
	}
	f, err := place.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", upload.Tag(info))
	return download(c, name, info.ModTime(), f)
}

// named is the path that a request's address ends with.
func named(c echo.Context) (string, error) {
	name := c.Param("*")
	if c.Request().URL.RawPath != "" { // echo leaves what was escaped as it is
		var err error
		if name, err = url.PathUnescape(name); err != nil {
			return "", fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}
	}
	return name, nil
}

// download answers with a file, or with the part of it that is asked for.
func download(c echo.Context, name string, changed time.Time, body io.ReadSeeker) error {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/octet-stream")
	h.Set(echo.HeaderContentDisposition, mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}))
	w := &patient{ResponseWriter: c.Response(), control: http.NewResponseController(c.Response())}
	http.ServeContent(w, c.Request(), "", changed, body)
	if w.outside {
		return echo.NewHTTPError(http.StatusRequestedRangeNotSatisfiable, "the range is outside of the file")
	}
	return nil
}
