// Package api is the agent's HTTP API. It is described in openapi.yaml first: types,
// routes and the Go client are made of that, requests are checked against it, and it
// says which role an operation needs.
//
// Handlers know no HTTP but for streams: they take what was asked for and return what
// is answered, or an error, of which a problem is made in one place.
package api

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/bundle"
	"hyper2kvm/agent/downloads"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/upload"
)

// Description is the API's, OpenAPI 3.1 in YAML.
//
//go:embed openapi.yaml
var Description []byte

// Config is what a server is made with.
type Config struct {
	Engine    *engine.Engine
	Gate      *auth.Gate
	Secrets   *seal.Secrets
	Provider  Provider // nil: people log in here alone
	Storages  storage.Reached
	Uploads   *upload.Receiver // to the storages
	Libraries Libraries
	Disks     Disks
	Downloads *downloads.Keeper // of other appliances
	Updates   Updates
	VSphere   VSphere // nil: no server is asked
	Backup    *backup.Source
	Bundle    *bundle.Source
	Fleet     *fleet.Registry                           // nil if appliances share an existing NATS
	Host      func(context.Context) (model.Host, error) // what this host can run
	Version   string
	Log       *slog.Logger
}

// server implements the operations.
type server struct {
	Config
	doc *openapi3.T
}

// base is where the operations are.
const base = "/api/v1"

// How large a request may be that is no upload, in bytes, and one that may have a plan.
const (
	maxBody     = 2 << 20
	maxWithPlan = 8 << 20
)

// description is what Description says, for all to read.
var description = sync.OnceValues(func() (*openapi3.T, error) { return openapi3.NewLoader().LoadFromData(Description) })

// New is the handler of the whole API.
func New(c Config) (http.Handler, error) {
	doc, err := description()
	if err != nil {
		return nil, fmt.Errorf("the API's description: %w", err)
	}
	s := &server{c, doc}
	needs, err := needs(doc)
	if err != nil {
		return nil, err
	}
	find, err := s.find(needs)
	if err != nil {
		return nil, err
	}
	m := newMetrics(c.Engine, c.Version)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect() // nobody else's word is taken for where a request comes from
	e.HTTPErrorHandler = s.failed
	e.Use(middleware.RequestID(), s.logged, m.measured, find, s.audited, middleware.RecoverWithConfig(middleware.RecoverConfig{LogErrorFunc: s.panicked}), headers, sameOrigin)
	if err := s.open(e); err != nil {
		return nil, err
	}
	s.login(e)
	e.GET("/metrics", echo.WrapHandler(m.handler()), s.known, need{role: auth.Viewer, scope: "appliance:read"}.hold)
	s.streams(e.Group(base, s.known), needs)
	g := e.Group(base, bounded(maxBody, false), bounded(maxWithPlan, true), s.known, checked)
	RegisterHandlers(g, NewStrictHandler(s, nil))
	g.GET("/events", s.followEvents)
	return e, nil
}

// streams are what may be larger than memory, most of it at paths with slashes, which no
// description can say.
func (s *server) streams(g *echo.Group, needs map[string]need) {
	for _, r := range []struct {
		method, path, operation string
		handle                  echo.HandlerFunc
	}{
		{http.MethodGet, "/migrations/:id/files/*", "readFile", s.readFile},
		{http.MethodGet, "/storages/:name/files/*", "readStorageFile", s.readStorageFile},
		{http.MethodHead, "/storages/:name/files/*", "readStorageFile", s.readStorageFile},
		{http.MethodPut, "/storages/:name/uploads/*", "uploadPart", s.uploadPart},
		{http.MethodGet, "/storages/:name/uploads/*", "readUpload", s.readUpload},
		{http.MethodHead, "/storages/:name/uploads/*", "readUpload", s.readUpload},
		{http.MethodDelete, "/storages/:name/uploads/*", "dropUpload", s.dropUpload},
		{http.MethodGet, "/appliance/downloads/:download/:file", "fetchDownload", s.fetchDownload},
		{http.MethodHead, "/appliance/downloads/:download/:file", "fetchDownload", s.fetchDownload},
		{http.MethodPut, "/libraries/:library", "putLibrary", s.putLibrary},
		{http.MethodGet, "/libraries/:library/upload", "readLibraryUpload", s.readLibraryUpload},
		{http.MethodHead, "/libraries/:library/upload", "readLibraryUpload", s.readLibraryUpload},
		{http.MethodPut, "/appliance/update", "putUpdate", s.putUpdate},
	} {
		g.Add(r.method, r.path, r.handle, needs[r.operation].hold)
	}
}

// bounded bounds the requests that may have a plan, or all others.
func bounded(size int, plans bool) echo.MiddlewareFunc {
	return middleware.BodyLimitWithConfig(middleware.BodyLimitConfig{Limit: fmt.Sprint(size),
		Skipper: func(c echo.Context) bool { return (wanted(c).operation() == "createMigration") != plans }})
}

// sameOrigin refuses what a page of another site has a browser send.
func sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(c echo.Context) error {
		if err := protection.Check(c.Request()); err != nil {
			return echo.NewHTTPError(http.StatusForbidden, err.Error())
		}
		return next(c)
	}
}

// headers are those that every answer has.
func headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		if c.Request().TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		return next(c)
	}
}

// logged tells of each request when it has ended. What is asked for by its address may
// be told: no secret is ever in one.
func (s *server) logged(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		r, w := c.Request(), c.Response()
		s.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", w.Status, "took", time.Since(began), "from", c.RealIP(), "id", w.Header().Get(echo.HeaderXRequestID))
		return nil
	}
}

func (s *server) panicked(c echo.Context, err error, stack []byte) error {
	s.Log.Error("a request's handler panicked", "path", c.Request().URL.Path, "err", err, "stack", string(stack))
	return err
}
