package api

import (
	"bytes"
	"context"
	_ "embed"
	"html/template"
	"net/http"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/config"
)

//go:embed login.html.tmpl
var loginText string

var loginPage = template.Must(template.New("login").Parse(loginText))

// login is how people come in by an identity provider, if there is one. They see pages,
// since a browser goes there by itself.
func (s *server) login(e *echo.Echo) {
	if s.Provider == nil {
		return
	}
	e.GET("/login", s.forPeople(s.beginLogin))
	e.GET(config.LoginCallback, s.forPeople(s.finishLogin))
}

// beginLogin sends a browser to the provider.
func (s *server) beginLogin(c echo.Context, p *auth.Provider) error {
	to, cookie, err := p.Begin(c.Request().Context(), from(c))
	if err != nil {
		return err
	}
	c.SetCookie(cookie)
	return c.Redirect(http.StatusFound, to)
}

// finishLogin takes in whoever the provider has sent back. The answer is a page and no
// redirect: a browser shows the session's cookie to no request that another site began.
func (s *server) finishLogin(c echo.Context, p *auth.Provider) error {
	session, err := p.Finish(c.Request().Context(), from(c), c.Request())
	if err != nil {
		return err
	}
	c.SetCookie(session.Cookie())
	return page(c, http.StatusOK, "You are logged in", nil)
}

// forPeople answers with a page, whatever comes of it. What is no answer for the one who
// asks is the provider's fault, or of how it is reached.
func (s *server) forPeople(do func(echo.Context, *auth.Provider) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		provider, err := s.Provider(c.Request().Context())
		if err == nil {
			err = do(c, provider)
		}
		if err == nil {
			return nil
		}
		p := problem(err)
		if p.Status == http.StatusInternalServerError {
			p.Status, p.Detail, p.Try = http.StatusBadGateway, "The identity provider does not answer as it should.", "Try again, and tell who looks after this appliance."
			s.Log.Error("somebody could not log in with the identity provider", "err", err)
		}
		p.Instance = c.Response().Header().Get(echo.HeaderXRequestID)
		told(c, p.Status, err)
		return page(c, p.Status, "You are not logged in", &p)
	}
}

func page(c echo.Context, status int, title string, p *model.Problem) error {
	var b bytes.Buffer
	err := loginPage.Execute(&b, struct {
		Title   string
		Problem *model.Problem
	}{title, p})
	if err != nil {
		return err
	}
	return c.HTMLBlob(status, b.Bytes())
}

// Provider is the identity provider of a moment: what it is asked with may be put in
// later, and changed.
type Provider func(context.Context) (*auth.Provider, error)
