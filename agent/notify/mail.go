package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"strings"
	"time"

	"hyper2kvm/agent/config"
)

// mailer is people who are told by mail.
type mailer struct {
	config.Mail
	secret Secret
	roots  *x509.CertPool // who may vouch for the server; nil: whom this host trusts
}

// send sends a mail once. An error that the server would give again is a lastingError.
func (m mailer) send(ctx context.Context, message Message) error {
	err := m.deliver(ctx, message)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if said, ok := errors.AsType[*textproto.Error](err); ok && said.Code >= 500 {
		return &lastingError{err}
	}
	return err
}

func (m mailer) deliver(ctx context.Context, message Message) (err error) {
	client, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quiet(client.Close())) }()
	if err := m.login(client); err != nil {
		return err
	}
	if err := client.Mail(m.From); err != nil {
		return fmt.Errorf("the mail server does not take mail from %s: %w", m.From, err)
	}
	refused := m.receivers(client)
	if len(refused) == len(m.To) {
		return errors.Join(refused...)
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.compose(message)); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // the server has taken it, or says why not
		return err
	}
	_ = client.Quit() // it is sent, whatever the server says to this
	if len(refused) > 0 {
		return &lastingError{errors.Join(refused...)} // the others have it, so it is not sent again
	}
	return nil
}

// quiet is no error for a connection that is closed already.
func quiet(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// connect begins the conversation, encrypted as the settings want it.
func (m mailer) connect(ctx context.Context) (*smtp.Client, error) {
	host, _, err := net.SplitHostPort(m.Server)
	if err != nil {
		return nil, &lastingError{err}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // whatever waits for it is told
	secure := &tls.Config{ServerName: host, RootCAs: m.roots, MinVersion: tls.VersionTLS12}
	if m.Encryption == "tls" {
		conn = tls.Client(conn, secure)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return nil, errors.Join(err, quiet(conn.Close()))
	}
	if err := m.greet(client, secure); err != nil {
		return nil, errors.Join(err, quiet(client.Close()))
	}
	return client, nil
}

// greet says who we are, and changes over to TLS. A server that does not offer that
// may be somebody in between who wants to read, so it is not spoken to.
func (m mailer) greet(client *smtp.Client, secure *tls.Config) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := client.Hello(cmp.Or(name, "localhost")); err != nil {
		return err
	}
	if m.Encryption != "startTLS" {
		return nil
	}
	if ok, _ := client.Extension("STARTTLS"); !ok {
		return &lastingError{errors.New("the mail server offers no STARTTLS: set notify.mail.encryption to tls, or to none if the way to it is safe")}
	}
	return client.StartTLS(secure)
}

func (m mailer) login(client *smtp.Client) error {
	if m.User == "" {
		return nil
	}
	password, err := m.secret(m.Secret)
	if err != nil {
		return fmt.Errorf("the password for the mail server: %w", err)
	}
	host, _, _ := net.SplitHostPort(m.Server) // it was split before
	err = client.Auth(smtp.PlainAuth("", m.User, strings.TrimRight(string(password), "\r\n"), host))
	if err != nil {
		return fmt.Errorf("the mail server does not let %s in: %w", m.User, err)
	}
	return nil
}

// receivers names those who get it, and returns why some do not.
func (m mailer) receivers(client *smtp.Client) (refused []error) {
	for _, to := range m.To {
		if err := client.Rcpt(to); err != nil {
			refused = append(refused, fmt.Errorf("the mail server does not take mail to %s: %w", to, err))
		}
	}
	return refused
}

// compose is the mail as it goes over the wire.
//
// Source: RFC 5322, 3.6; RFC 2045, 6.7; RFC 3834, 5, for Auto-Submitted.
func (m mailer) compose(message Message) []byte {
	_, domain, _ := strings.Cut(m.From, "@")
	var b bytes.Buffer
	for _, header := range [][2]string{
		{"From", "hyper2kvm <" + m.From + ">"},
		{"To", strings.Join(m.To, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", "[hyper2kvm] "+message.Subject())},
		{"Date", message.Time.Format(time.RFC1123Z)},
		{"Message-ID", "<" + message.ID + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", header[0], header[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(message.Text())) // into memory
	_ = w.Close()
	return b.Bytes()
}
