// Package webhook tells other programs by HTTP, in JSON, and signs what it says.
//
// Target: an address with what requests to it are signed with. Delivery: one thing
// that is told; it may be told more than once under the same ID.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Headers of a request, besides the usual ones.
const (
	DeliveryHeader  = "Hyper2kvm-Delivery"  // the delivery's ID
	TimestampHeader = "Hyper2kvm-Timestamp" // seconds since 1970
	SignatureHeader = "Hyper2kvm-Signature" // of Sign
)

// maxAnswer is how much of an answer is read, bytes.
const maxAnswer = 16 << 10

// Target is where it is told. Its URL may be a secret, and is in no error.
type Target struct {
	URL   string         // http or https
	Key   []byte         // to sign with; not signed if it is empty
	Roots *x509.CertPool // who may vouch for the server; nil: whom this host trusts
}

// Refused is an answer that is not of the kind 2xx.
type Refused struct {
	Status int
	Answer string        // its beginning
	After  time.Duration // when it may be tried again, if the answer says so
}

func (r *Refused) Error() string {
	text := fmt.Sprintf("it answered %d %s", r.Status, http.StatusText(r.Status))
	if r.Status >= 300 && r.Status < 400 {
		return text + ", which is not followed: give the address that it leads to"
	}
	if words := strings.Join(strings.Fields(r.Answer), " "); words != "" {
		text += fmt.Sprintf(": %.300q", words)
	}
	return text
}

// Lasting tells whether the same request would be refused again.
func (r *Refused) Lasting() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return r.Status < 500
}

// Sign is the signature of a body that is sent at a time in seconds since 1970: the
// HMAC-SHA256 of the time, a full stop, and the body. Who receives it compares, and
// takes nothing that is older than some minutes.
func Sign(key []byte, seconds int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%d.", seconds)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Post sends JSON to the target, once, and returns the beginning of the answer. The
// error is a *Refused if there was an answer. Redirects are not followed; ctx bounds
// the time.
func (t Target) Post(ctx context.Context, delivery string, body []byte) (answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the webhook's address cannot be used: write one such as https://hooks.example.org/path")
	}
	if s := request.URL.Scheme; s != "http" && s != "https" {
		return nil, errors.New("the webhook's address is neither http nor https")
	}
	now := time.Now().Unix()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "hyper2kvm")
	request.Header.Set(DeliveryHeader, delivery)
	request.Header.Set(TimestampHeader, strconv.FormatInt(now, 10))
	if len(t.Key) > 0 {
		request.Header.Set(SignatureHeader, Sign(t.Key, now, body))
	}
	response, err := t.client().Do(request)
	if err != nil {
		return nil, unaddressed(ctx, err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode/100 != 2 {
		return answer, &Refused{Status: response.StatusCode, Answer: string(answer), After: after(response.Header.Get("Retry-After"))}
	}
	return answer, unaddressed(ctx, err)
}

// client keeps no connections: deliveries are few.
func (t Target) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.Roots},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// unaddressed is what happened, without the address, or why the time was over.
func unaddressed(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// after reads Retry-After's seconds; a date is not taken.
// Source: RFC 9110, 10.2.3.
func after(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
