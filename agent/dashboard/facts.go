package dashboard

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/problem"
)

// reason is the innermost of an error of the socket, which is named already.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// ending is what the agent has left of why it has ended; "" if it has left nothing.
func ending(socket string) string {
	text, err := os.ReadFile(config.Ended(socket))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		return "why, is not known: " + err.Error()
	}
	return strings.TrimSpace(string(text))
}

// local looks at what this machine knows without the agent.
func (w *Watcher) local() {
	links, err := w.options.Links()
	w.set(func(s *Status) {
		s.Links, s.LinkFault = links, ""
		if err != nil {
			s.LinkFault = err.Error()
		}
		s.Disk = space(s.Disk.Path)
	})
}

// space is how much of it there is.
func space(path string) Disk {
	if path == "" {
		return Disk{}
	}
	var v unix.Statfs_t
	if err := unix.Statfs(path, &v); err != nil {
		return Disk{Path: path, Fault: err.Error()}
	}
	const step = 100 << 20 // less is no news, and would redraw the screen all the time
	free := int64(v.Bavail) * v.Frsize
	return Disk{Path: path, Size: int64(v.Blocks) * v.Frsize, Free: free - free%step}
}

// settings reads the agent's settings, and what first boot tells.
func (w *Watcher) settings() {
	settings, err := w.options.Settings()
	problems := firstBoot(w.options.Root)
	w.set(func(s *Status) {
		s.Problems = problems
		if err != nil {
			s.Problems = append(s.Problems, problem.Sentence(err))
			s.Name, _ = os.Hostname() // "" shows that there is none
			return
		}
		s.Name, s.Listen, s.Disk.Path, s.Shell = settings.Appliance.Name, listens(settings.Listen), settings.State, settings.Screen.Shell
		s.Disk = space(s.Disk.Path)
	})
}

// listens is where browsers reach an appliance.
func listens(ways []config.Listen) string {
	for _, l := range ways {
		if l.HTTPS != "" {
			return l.HTTPS
		}
	}
	return ""
}

// seldom looks at what seldom changes, and always after the agent was away.
func (w *Watcher) seldom(ctx context.Context) {
	if time.Since(w.look) < seldom {
		return
	}
	w.look = time.Now()
	w.settings()
	if listen := w.status().Listen; listen != "" {
		print, err := fingerprint(ctx, listen)
		if err != nil {
			print = ""
			w.look = time.Time{}
		}
		w.set(func(s *Status) { s.Fingerprint = print })
	}
	if w.stop == nil {
		ctx, w.stop = context.WithCancel(ctx)
		conn := w.conn
		w.all.Go(func() { w.events(ctx, conn) })
		w.all.Go(func() { repeat(ctx, seldom, nil, func() { w.host(ctx, conn) }) })
		w.all.Go(func() { repeat(ctx, seldom, nil, func() { w.update(ctx, conn) }) })
	}
}

// fingerprint is the SHA-256 of the certificate that browsers are shown, by being shown
// it. Nothing is sent to whoever that is.
func fingerprint(ctx context.Context, listen string) (string, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", here(listen))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"), conn.Close()
}

// here is where this machine reaches what listens on an address.
func here(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return listen
}

// host asks what this machine can run, which may take the agent half a minute to find out.
func (w *Watcher) host(ctx context.Context, conn *client.Conn) {
	host, err := conn.Host(ctx)
	if ctx.Err() != nil {
		return
	}
	w.set(func(s *Status) {
		s.Host = &host
		if err != nil {
			s.Host = &model.Host{Reason: err.Error()}
		}
	})
}

// update asks how the last update went.
func (w *Watcher) update(ctx context.Context, conn *client.Conn) {
	m, err := conn.Update(ctx)
	if ctx.Err() != nil {
		return
	}
	u := Update{Text: m.Note, Failed: m.State == model.UpdateStateFailed || m.State == model.UpdateStateBrokenOff}
	switch {
	case err != nil:
		u = Update{Text: err.Error(), Failed: true}
	case m.Problem.Detail != "":
		u = Update{Text: m.Problem.Detail, Failed: true}
	case m.Installing.From != "":
		u = Update{Text: "one is installed, from " + m.Installing.From}
	}
	w.set(func(s *Status) { s.Update = u })
}
