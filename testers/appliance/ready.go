package appliance

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"
)

// Client speaks with the appliance, whose certificate is its own: whoever wants to know
// that it is this appliance compares the certificate with what its screen shows.
func (m *Machine) Client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
}

// Ready waits until the API says that it is.
func (m *Machine) Ready(ctx context.Context) error {
	c := m.Client()
	return m.until(ctx, func() (bool, error) {
		r, err := c.Get(m.URL() + "/readyz")
		if err != nil {
			return false, err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return false, fmt.Errorf("/readyz answers %s", r.Status)
		}
		return true, nil
	}, "get ready")
}
