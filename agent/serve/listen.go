package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/config"
)

// way is one way in.
type way struct {
	net.Listener
	name string
	note string // for people
}

// bounds are of a connection. What takes longer, such as a stream of events or a
// download, says so as it goes on.
type bounds struct {
	headers time.Duration // within which a request's have to be there
	answer  time.Duration // within which the rest is, and the answer is received
	idle    time.Duration // for which nothing may be asked
}

var usual = bounds{headers: 10 * time.Second, answer: time.Minute, idle: 2 * time.Minute}

const (
	maxHeaders = 64 << 10 // bytes
	lastWords  = 10 * time.Second
)

// listen opens all ways in. Sockets that systemd has opened are taken instead of those
// of the settings.
func (a *agent) listen() (ways []way, err error) {
	defer func() {
		if err != nil {
			for _, w := range ways {
				err = errors.Join(err, w.Close())
			}
		}
	}()
	c, err := certificate(a.settings)
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}}
	note := ", its certificate's SHA-256 is " + fingerprint(c)
	opened, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("the sockets of systemd: %w", err)
	}
	if len(opened) > 0 {
		return activated(opened, secure, note), nil
	}
	for _, l := range a.settings.Listen {
		w, err := open(l, secure, note)
		if err != nil {
			return ways, err
		}
		ways = append(ways, w)
	}
	return ways, nil
}

// activated are ways that systemd has opened: all but Unix sockets get TLS.
func activated(list []net.Listener, secure *tls.Config, note string) (ways []way) {
	for _, l := range list {
		if l.Addr().Network() == "unix" {
			ways = append(ways, way{l, "unix:" + l.Addr().String(), ""})
			continue
		}
		ways = append(ways, way{tls.NewListener(l, secure), "https://" + l.Addr().String(), note})
	}
	return ways
}

func open(l config.Listen, secure *tls.Config, note string) (way, error) {
	switch {
	case l.HTTPS != "":
		n, err := net.Listen("tcp", l.HTTPS)
		if err != nil {
			return way{}, fmt.Errorf("%w: listen: %w", config.ErrSettings, err)
		}
		return way{tls.NewListener(n, secure), "https://" + n.Addr().String(), note}, nil
	case l.Unix != "":
		n, err := socket(l.Unix)
		return way{n, "unix:" + l.Unix, ""}, err
	}
	n, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, l.VSock, nil) // asks for no /dev/vsock: the kernel loads what it takes
	if err != nil {
		return way{}, fmt.Errorf("%w: listen: vsock %d: %w", config.ErrSettings, l.VSock, err)
	}
	return way{tls.NewListener(n, secure), fmt.Sprintf("vsock:%d", l.VSock), note}, nil
}

// socket opens a Unix socket for its owner and group. One that a killed agent left is
// replaced: the state folder's lock shows that no agent of this state runs.
func socket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("%w: listen: somebody answers on %s already", config.ErrSettings, path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: listen: %w", config.ErrSettings, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// answer serves a handler on all ways until the function that it returns is called.
func answer(ways []way, handler http.Handler, b bounds, log *slog.Logger, failed context.CancelCauseFunc) (stop func()) {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: b.headers, ReadTimeout: b.answer, WriteTimeout: b.answer, IdleTimeout: b.idle, MaxHeaderBytes: maxHeaders,
		ConnContext: peer, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	for _, w := range ways {
		go func() {
			if err := s.Serve(w); !errors.Is(err, http.ErrServerClosed) {
				failed(fmt.Errorf("listen on %s: %w", w.name, err))
			}
		}()
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil { // streams of events are cut off, and can be taken up again
			if err := s.Close(); err != nil {
				log.Warn("a way in was not closed", "err", err)
			}
		}
	}
}

// peer notes who is at the other end of a Unix socket: root, and whose agent this is,
// have all rights. Others show a token, as everywhere.
func peer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ctx
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return ctx
	}
	return context.WithValue(ctx, api.PeerKey{}, auth.Local(fmt.Sprintf("uid-%d", cred.Uid), auth.Admin))
}
