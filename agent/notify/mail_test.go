package notify

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/config"
)

var message = Message{
	ID: "e17", Time: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC), Appliance: "kvm1", Migration: "01kaz3y2mq-web01",
	Name: "wéb01\r\nBcc: all@example.org", State: "failed", Detail: "the target is full: " + strings.Repeat("long ", 40) + "\n.\nQUIT", Try: "make room",
}

func settings(p *post) config.Mail {
	return config.Mail{Server: p.listener.Addr().String(), From: "h2k@example.org", To: []string{"a@example.org", "b@example.org"},
		Encryption: "startTLS", User: "h2k", Secret: "mail-password"}
}

func secret(name string) ([]byte, error) {
	if name != "mail-password" {
		return nil, errors.New("there is no secret " + name)
	}
	return []byte("pass word\n"), nil
}

func TestAMailIsSentAndReadByPeople(t *testing.T) {
	p := newPost(t, nil)
	if err := (mailer{settings(p), secret, p.roots}).send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	mails, _ := p.taken()
	if len(mails) != 1 {
		t.Fatalf("%d mails were taken", len(mails))
	}
	m := mails[0]
	if !m.secure || m.user != "h2k" || !strings.HasPrefix(m.from, "FROM:<h2k@example.org>") || len(m.to) != 2 || m.to[1] != "TO:<b@example.org>" {
		t.Errorf("the envelope is %+v", m)
	}
	read, err := netmail.ReadMessage(strings.NewReader(m.data))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(read.Header.Get("Subject"))
	if want := "[hyper2kvm] wéb01 Bcc: all@example.org failed"; err != nil || subject != want {
		t.Errorf("subject %q, %v, want %q", subject, err, want)
	}
	if read.Header.Get("Bcc") != "" || read.Header.Get("Message-Id") != "<e17@example.org>" || read.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("header %v", read.Header)
	}
	if date, err := read.Header.Date(); err != nil || !date.Equal(message.Time) {
		t.Errorf("date %v, %v", date, err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(read.Body))
	if err != nil || string(text) != message.Text() {
		t.Errorf("it says %q, %v, want %q", text, err, message.Text())
	}
}

func TestAMailGoesTheWayThatIsWanted(t *testing.T) {
	for name, c := range map[string]struct {
		server  func(*post)
		change  func(*config.Mail)
		want    string // of the error
		lasting bool
		secure  bool
	}{
		"tls":               {func(p *post) { p.implicit = true }, func(m *config.Mail) { m.Encryption = "tls" }, "", false, true},
		"none":              {func(p *post) { p.plain = true }, func(m *config.Mail) { m.Encryption, m.User = "none", "" }, "", false, false},
		"nobody to log in":  {nil, func(m *config.Mail) { m.User = "" }, "", false, true},
		"not changed over":  {func(p *post) { p.plain = true }, nil, "offers no STARTTLS: set notify.mail.encryption", true, false},
		"a wrong password":  {nil, func(m *config.Mail) { m.Secret = "none" }, "the password for the mail server: there is no secret none", false, false},
		"not let in":        {func(p *post) { p.replies = map[string]string{"AUTH": "535 go away"} }, nil, "does not let h2k in: 535", true, false},
		"not now":           {func(p *post) { p.replies = map[string]string{"MAIL": "451 busy"} }, nil, "does not take mail from h2k@example.org: 451", false, false},
		"nobody is known":   {func(p *post) { p.replies = map[string]string{"RCPT": "550 who?"} }, nil, "to b@example.org: 550", true, false},
		"data is not taken": {func(p *post) { p.replies = map[string]string{"DATA": "554 spam"} }, nil, "554", true, false},
	} {
		p := newPost(t, c.server)
		s := settings(p)
		if c.change != nil {
			c.change(&s)
		}
		err := mailer{s, secret, p.roots}.send(t.Context(), message)
		mails, said := p.taken()
		if c.want == "" {
			if err != nil || len(mails) != 1 || mails[0].secure != c.secure {
				t.Errorf("%s: %v, %+v", name, err, mails)
			}
			continue
		}
		_, lasting := errors.AsType[*lastingError](err)
		if err == nil || !strings.Contains(err.Error(), c.want) || lasting != c.lasting || len(mails) > 0 {
			t.Errorf("%s: %v, lasting %v, want %s, %v", name, err, lasting, c.want, c.lasting)
		}
		if strings.Contains(err.Error(), "pass word") {
			t.Errorf("%s: the password is in %v", name, err)
		}
		if name == "not changed over" && strings.Contains(said, "AUTH") {
			t.Errorf("the password went over the wire in the clear:\n%s", said)
		}
	}
}

func TestOneUnknownReceiverKeepsNobodyElseFromIt(t *testing.T) {
	p := newPost(t, func(p *post) { p.replies = map[string]string{"RCPT TO:<a@example.org>": "550 who?"} })
	err := mailer{settings(p), secret, p.roots}.send(t.Context(), message)
	mails, _ := p.taken()
	if _, lasting := errors.AsType[*lastingError](err); !lasting || !strings.Contains(err.Error(), "a@example.org: 550") || len(mails) != 1 || len(mails[0].to) != 1 {
		t.Errorf("send = %v, %+v", err, mails)
	}
}

func TestAServerOfNobodyWeTrustIsNotTold(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		p := newPost(t, func(p *post) { p.implicit = implicit })
		s := settings(p)
		if implicit {
			s.Encryption = "tls"
		}
		err := mailer{s, secret, nil}.send(t.Context(), message)
		if _, said := p.taken(); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(said, "AUTH") {
			t.Errorf("send = %v; it heard %s", err, said)
		}
	}
}

func TestAServerThatSaysNothingIsLeft(t *testing.T) {
	p := newPost(t, func(p *post) { p.silent = true })
	slow := errors.New("slow")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, slow)
	defer cancel()
	if err := (mailer{settings(p), secret, p.roots}).send(ctx, message); !errors.Is(err, slow) {
		t.Errorf("send = %v", err)
	}
	s := settings(p)
	s.Server = "127.0.0.1:1"
	err := mailer{s, secret, p.roots}.send(t.Context(), message)
	if _, lasting := errors.AsType[*lastingError](err); err == nil || lasting {
		t.Errorf("to a server that is not there: %v", err)
	}
}
