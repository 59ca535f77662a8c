package notify

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"sync"
	"testing"
)

// post is a small mail server.
type post struct {
	listener net.Listener
	secure   *tls.Config
	roots    *x509.CertPool

	implicit bool              // TLS from the first byte
	plain    bool              // offers no STARTTLS
	silent   bool              // takes connections and says nothing
	replies  map[string]string // to a command's first word, instead of the usual; once each if it begins with 4

	mu    sync.Mutex
	mails []mail
	lines []string // all that clients said, TLS taken off
}

// mail is one that was taken.
type mail struct {
	secure bool
	user   string
	from   string
	to     []string
	data   string
}

func newPost(t *testing.T, change func(*post)) *post {
	t.Helper()
	certificates := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	certificates.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &post{listener: listener, secure: &tls.Config{Certificates: certificates.TLS.Certificates}, roots: x509.NewCertPool()}
	p.roots.AddCert(certificates.Certificate())
	if change != nil {
		change(p)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return p
}

func (p *post) serve(conn net.Conn) {
	defer conn.Close()
	if p.silent {
		conn.Read(make([]byte, 1)) // until the client has had enough
		return
	}
	if p.implicit {
		conn = tls.Server(conn, p.secure)
	}
	text := textproto.NewConn(conn)
	m := mail{secure: p.implicit}
	text.PrintfLine("220 post.example.org ESMTP")
	for {
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		p.note(line)
		word, rest, _ := strings.Cut(line, " ")
		word = strings.ToUpper(word)
		if reply := p.reply(word, rest); reply != "" {
			text.PrintfLine("%s", reply)
			continue
		}
		switch word {
		case "EHLO":
			text.PrintfLine("250-post.example.org")
			if !p.plain && !m.secure {
				text.PrintfLine("250-STARTTLS")
			}
			if m.secure {
				text.PrintfLine("250-AUTH PLAIN")
			}
			text.PrintfLine("250 8BITMIME")
		case "STARTTLS":
			text.PrintfLine("220 go ahead")
			conn = tls.Server(conn, p.secure)
			text = textproto.NewConn(conn)
			m = mail{secure: true}
		case "AUTH":
			_, code, _ := strings.Cut(rest, " ")
			said, _ := base64.StdEncoding.DecodeString(code)
			parts := strings.Split(string(said), "\x00")
			if len(parts) != 3 || parts[2] != "pass word" {
				text.PrintfLine("535 no")
				continue
			}
			m.user = parts[1]
			text.PrintfLine("235 welcome")
		case "MAIL":
			m.from = rest
			text.PrintfLine("250 ok")
		case "RCPT":
			m.to = append(m.to, rest)
			text.PrintfLine("250 ok")
		case "DATA":
			text.PrintfLine("354 say it")
			data, err := text.ReadDotBytes()
			if err != nil {
				return
			}
			m.data = string(data)
			p.mu.Lock()
			p.mails = append(p.mails, m)
			p.mu.Unlock()
			text.PrintfLine("250 taken")
		case "QUIT":
			text.PrintfLine("221 bye")
			return
		default:
			text.PrintfLine("502 what?")
		}
	}
}

// reply is what is said instead of the usual, if something is.
func (p *post) reply(word, rest string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []string{word, word + " " + rest} {
		if reply := p.replies[key]; reply != "" {
			if reply[0] == '4' {
				delete(p.replies, key)
			}
			return reply
		}
	}
	return ""
}

func (p *post) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
}

// taken are the mails so far, and all that was said.
func (p *post) taken() ([]mail, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]mail{}, p.mails...), strings.Join(p.lines, "\n")
}
