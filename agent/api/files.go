package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/worker"
	"hyper2kvm/fixers"
	"hyper2kvm/pipeline"
)

// recordFile is the migration's own record, of which a copy is kept.
const recordFile = "migration.json"

// record is what the pipeline has noted of a migration; fs.ErrNotExist before it has.
func (s *server) record(ctx context.Context, id string) (m pipeline.Migration, err error) {
	if _, err := s.Engine.View(ctx, id); err != nil {
		return m, err
	}
	r, _, err := s.Engine.OpenKept(ctx, id, recordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("it has not come so far: %w", fs.ErrNotExist)
	}
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}

// asJSON answers with a value as it is, in JSON or in a text that was asked for.
type asJSON struct {
	value any
	text  string
}

func (a asJSON) write(w http.ResponseWriter) error {
	if a.text != "" {
		w.Header().Set(echo.HeaderContentType, "text/plain; charset=utf-8")
		_, err := io.WriteString(w, a.text)
		return err
	}
	w.Header().Set(echo.HeaderContentType, "application/json")
	return json.NewEncoder(w).Encode(a.value)
}

// VisitReadPlanResponse implements ReadPlanResponseObject.
func (a asJSON) VisitReadPlanResponse(w http.ResponseWriter) error { return a.write(w) }

// VisitReadFactsResponse implements ReadFactsResponseObject.
func (a asJSON) VisitReadFactsResponse(w http.ResponseWriter) error { return a.write(w) }

// ReadPlan implements readPlan.
func (s *server) ReadPlan(ctx context.Context, r ReadPlanRequestObject) (ReadPlanResponseObject, error) {
	m, err := s.record(ctx, r.ID)
	if err == nil && m.Plan == nil {
		err = fmt.Errorf("it has no plan yet: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if r.Params.Accept == "text/plain" {
		return asJSON{text: pipeline.PlanText(*m.Plan)}, nil
	}
	return asJSON{value: (*fixers.Plan)(m.Plan)}, nil
}

// ReadFacts implements readFacts.
func (s *server) ReadFacts(ctx context.Context, r ReadFactsRequestObject) (ReadFactsResponseObject, error) {
	m, err := s.record(ctx, r.ID)
	if err == nil && m.Facts == nil {
		err = fmt.Errorf("it was not inspected yet: %w", fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return asJSON{value: map[string]any{"machine": m.Machine, "facts": m.Facts, "checks": m.Checks}}, nil
}

// ListFiles implements listFiles.
func (s *server) ListFiles(ctx context.Context, r ListFilesRequestObject) (ListFilesResponseObject, error) {
	m, err := s.Engine.View(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	list, err := s.Engine.Kept(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if folder, err := s.Storages.Now().Path(m.Folder, true); err == nil { // this appliance reaches it
		there, err := worker.Files(folder)
		if err != nil {
			return nil, err
		}
		for _, f := range there {
			if !slices.ContainsFunc(list, func(k model.File) bool { return k.Path == f.Path }) {
				list = append(list, f)
			}
		}
	}
	slices.SortFunc(list, func(a, b model.File) int { return strings.Compare(a.Path, b.Path) })
	return ListFiles200JSONResponse{Items: append([]model.File{}, list...)}, nil
}

// readFile implements readFile.
func (s *server) readFile(c echo.Context) error {
	name, err := c.Param("*"), error(nil)
	if c.Request().URL.RawPath != "" { // else it is unescaped already
		name, err = url.PathUnescape(name)
	}
	if err != nil || !fs.ValidPath(name) || name == "." {
		return fmt.Errorf("%q: %w", name, fs.ErrNotExist)
	}
	ctx := c.Request().Context()
	m, err := s.Engine.View(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	if worker.IsDisk(name) {
		if err := (need{role: auth.Operator, scope: "migrations:read"}).allow(principal(ctx)); err != nil {
			return err
		}
	}
	body, changed, err := s.file(ctx, m, name)
	if err != nil {
		return err
	}
	defer body.Close()
	return download(c, name, changed, body)
}

// seeker is a file that is read from anywhere.
type seeker interface {
	io.ReadSeeker
	io.Closer
}

// file opens a migration's file: in its folder, if this appliance reaches that, or the
// copy that is kept.
func (s *server) file(ctx context.Context, m model.Migration, name string) (seeker, time.Time, error) {
	if folder, err := s.Storages.Now().Path(m.Folder, true); err == nil {
		f, changed, err := inFolder(folder, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, changed, err
		}
	}
	r, _, err := s.Engine.OpenKept(ctx, m.ID, name)
	if err != nil {
		return nil, time.Time{}, err
	}
	text, err := io.ReadAll(r) // it is bounded when it is kept
	return inMemory{bytes.NewReader(text)}, m.Updated, errors.Join(err, r.Close())
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// inFolder opens a regular file that a migration has made, and nothing that a link
// leads to elsewhere.
func inFolder(folder, name string) (_ seeker, changed time.Time, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, changed, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(name, "work/") {
		return nil, changed, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, changed, err
	}
	return f, info.ModTime(), nil
}

// patience is how long a client may take to receive what is written to it.
const patience = 30 * time.Second

// patient is an answer that takes long, to a client that goes on receiving it.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	outside bool // the range is outside of the file, which is told otherwise
}

// WriteHeader begins the answer.
func (p *patient) WriteHeader(status int) {
	if p.outside = status == http.StatusRequestedRangeNotSatisfiable; !p.outside {
		p.ResponseWriter.WriteHeader(status)
	}
}

// Write gives the client its time again.
func (p *patient) Write(b []byte) (int, error) {
	if p.outside {
		return len(b), nil
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}
