package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/upload"
)

// partKey marks a request that brought a part of a file: the whole is recorded, and not
// each of its parts.
const partKey = "part"

// ListUploads implements listUploads.
func (s *server) ListUploads(_ context.Context, r ListUploadsRequestObject) (ListUploadsResponseObject, error) {
	if _, err := s.Storages.Now().Find(r.Name); err != nil {
		return nil, err
	}
	all, err := s.Uploads.List()
	if err != nil {
		return nil, err
	}
	answer := ListUploads200JSONResponse{Items: []model.Upload{}}
	for _, u := range all {
		if name, path, _ := strings.Cut(u.Key, "/"); name == r.Name {
			answer.Items = append(answer.Items, uploadOf(u, path))
		}
	}
	return answer, nil
}

func uploadOf(u upload.Upload, path string) model.Upload {
	return model.Upload{Path: path, Size: u.Size, Offset: u.Offset, By: u.By, Began: u.Began, Changed: u.Changed}
}

// uploadPlace is what an upload's address names: its key, and its path in the storage.
func (s *server) uploadPlace(c echo.Context) (key, path string, err error) {
	if path, err = named(c); err != nil {
		return "", "", err
	}
	name := c.Param("name")
	return storage.Key(name, path), path, s.Storages.Now().Check(model.Place{Storage: name, Path: path}, false)
}

// uploadPart implements uploadPart.
func (s *server) uploadPart(c echo.Context) error {
	key, path, err := s.uploadPlace(c)
	if err != nil {
		return err
	}
	match := c.Request().Header.Get("If-Match")
	folder, name, err := s.Storages.Now().Locate(key)
	if err != nil {
		return err
	}
	err = upload.Match(folder, name, match) // before anything is sent for nothing
	if err := errors.Join(err, folder.Close()); err != nil {
		return err
	}
	tag := ""
	u, err := s.receive(c, s.Uploads, key, func(folder *os.Root, part string) error {
		if err := upload.Place(folder, part, name, match); err != nil {
			return err
		}
		info, err := folder.Lstat(name)
		if err == nil {
			tag = upload.Tag(info)
		}
		return err
	})
	if err != nil {
		return err
	}
	if tag == "" {
		c.Set(partKey, true)
		return c.JSON(http.StatusAccepted, uploadOf(u, path))
	}
	c.Response().Header().Set("ETag", tag)
	c.Response().Header().Set(echo.HeaderLocation, (&url.URL{Path: base + "/storages/" + c.Param("name") + "/files/" + path}).String())
	return c.JSON(http.StatusCreated, uploadOf(u, path))
}

// receive takes what a request brings. How far the upload is then is told in a header,
// of a refusal too.
func (s *server) receive(c echo.Context, to *upload.Receiver, key string, accept upload.Accept) (upload.Upload, error) {
	r := c.Request()
	p, err := partOf(r)
	if err != nil {
		return upload.Upload{}, err
	}
	p.By = principal(r.Context()).Name
	body := &arriving{server: s, ctx: r.Context(), body: r.Body, control: http.NewResponseController(c.Response())}
	if err := body.patience(); err != nil {
		return upload.Upload{}, err
	}
	u, err := to.Take(r.Context(), key, p, body, accept)
	c.Response().Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	return u, err
}

// partOf is what a request says that it brings.
func partOf(r *http.Request) (p upload.Part, err error) {
	if p.SHA256, err = upload.ParseDigest(r.Header.Get("Repr-Digest")); err != nil {
		return p, err
	}
	text := r.Header.Get("Content-Range")
	if text == "" {
		if r.ContentLength < 0 {
			return p, echo.NewHTTPError(http.StatusLengthRequired, "the request tells neither its length nor, as Content-Range, what part of a file it brings")
		}
		p.Length, p.Size = r.ContentLength, r.ContentLength
		return p, nil
	}
	if p.First, p.Length, p.Size, err = upload.ParseRange(text); err != nil {
		return p, err
	}
	if r.ContentLength >= 0 && r.ContentLength != p.Length {
		err = fmt.Errorf("%w: the request has %d bytes, and its Content-Range %d", upload.ErrInput, r.ContentLength, p.Length)
	}
	return p, err
}

// pace is how many bytes must come within the time that a client is given.
const pace = 64 << 10

// arriving is a body that takes long, of a client that goes on sending it and may.
type arriving struct {
	server  *server
	ctx     context.Context
	body    io.Reader
	control *http.ResponseController
	came    int // since the client was given its time
	checked time.Time
	read    time.Time // what came last
}

// busy is after how long without a Read the client is not to blame.
const busy = time.Second

// Read gives the client its time again for every pace bytes, and after what has taken long
// on this side.
func (a *arriving) Read(b []byte) (int, error) {
	if a.came >= pace || !a.read.IsZero() && time.Since(a.read) > busy {
		a.came = 0
		if err := a.patience(); err != nil {
			return 0, err
		}
	}
	n, err := a.body.Read(b)
	a.came, a.read = a.came+n, time.Now()
	return n, err
}

func (a *arriving) patience() error {
	now := time.Now()
	if a.checked.IsZero() {
		a.checked = now
	}
	if now.Sub(a.checked) > recheck {
		a.checked = now
		if err := a.server.Gate.Recheck(a.ctx, principal(a.ctx)); err != nil {
			return err
		}
	}
	if err := a.control.SetReadDeadline(now.Add(patience)); err != nil {
		return err
	}
	return a.control.SetWriteDeadline(now.Add(settling))
}

// settling is how long it may take to put a file in its place after its last byte.
const settling = 10 * time.Minute

// readUpload implements readUpload.
func (s *server) readUpload(c echo.Context) error {
	key, path, err := s.uploadPlace(c)
	if err != nil {
		return err
	}
	u, err := s.Uploads.Read(key)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	return c.JSON(http.StatusOK, uploadOf(u, path))
}

// dropUpload implements dropUpload.
func (s *server) dropUpload(c echo.Context) error {
	key, _, err := s.uploadPlace(c)
	if err != nil {
		return err
	}
	if err := s.Uploads.Drop(key); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
