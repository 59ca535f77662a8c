package api

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// open are the paths that everybody may read.
func (s *server) open(e *echo.Echo) error {
	page, err := reference(s.doc)
	if err != nil {
		return err
	}
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "alive\n") })
	e.GET("/readyz", s.ready)
	e.GET("/openapi.yaml", func(c echo.Context) error { return c.Blob(http.StatusOK, "application/yaml", Description) })
	e.GET("/reference.css", func(c echo.Context) error { return c.Blob(http.StatusOK, "text/css", referenceStyle) })
	e.GET("/reference", func(c echo.Context) error {
		c.Response().Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'")
		return c.HTMLBlob(http.StatusOK, page)
	})
	return nil
}

// ready tells whether migrations can be read and written.
func (s *server) ready(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 2*time.Second)
	defer cancel()
	if err := s.Engine.Ready(ctx); err != nil {
		return err
	}
	return c.String(http.StatusOK, "ready\n")
}
