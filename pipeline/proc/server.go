package proc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Service says how to run a program that answers on a Unix socket.
type Service struct {
	Command               // Both takes all that it says, and the tail of it is kept
	Socket  string        // answers when it is ready; the caller's private folder
	Ready   time.Duration // longest wait for the socket; 30 s if zero
	// PrivateMounts gives the program a mount namespace of its own, so that
	// what it mounts vanishes with it, however it ends.
	PrivateMounts bool
	// NoSocket skips the wait: readiness is the caller's to find out.
	NoSocket bool
	// Part makes the program this very one, started once more to play a part with
	// rights and a life of its own: it knows its part by Name, which is its argv[0].
	Part bool
	// Program is the file of the program, in place of one that is found by Name, which
	// is then only its argv[0]: see InMemory.
	Program *os.File
	// Files are its descriptors 3, 4 and so on: see Handed.
	Files []*os.File
	// Group is the folder of a control group in which it begins; the agent's own if nil.
	Group *os.File
}

// Server is a running program. It ends with Stop, with the agent, or by itself.
type Server struct {
	cmd  *exec.Cmd
	said *tail
	spec Command
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; read after done
}

// Start starts a server and waits until its socket answers. The server does
// not end with ctx, which bounds only the wait; it ends with the agent.
func Start(ctx context.Context, s Service) (*Server, error) {
	said := &tail{limit: stderrTail}
	cmd, err := s.command(said)
	if err != nil {
		return nil, err
	}
	server := &Server{cmd: cmd, said: said, spec: s.Command, done: make(chan struct{})}
	began, started := time.Now(), make(chan error, 1)
	go func() {
		server.err = s.live(cmd, started)
		close(server.done)
	}()
	if err := <-started; err != nil {
		return nil, s.startFailure(err, said)
	}
	if !s.NoSocket {
		if err := server.awaitSocket(ctx, s); err != nil {
			return nil, errors.Join(err, server.Stop())
		}
	}
	s.log(ctx, "program started", began)
	return server, nil
}

// live starts the program, tells so, and returns how it ended.
func (s Service) live(cmd *exec.Cmd, started chan<- error) (err error) {
	defer killGroup(cmd)
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	begun := false
	run := func() error {
		err := cmd.Start()
		begun = true
		started <- err
		if err != nil {
			return err
		}
		if s.Memory > 0 {
			defer watchMemory(cmd.Process.Pid, s.Memory, end)()
			defer context.AfterFunc(ctx, func() { killGroup(cmd) })()
		}
		return cmd.Wait()
	}
	err = s.within(run)
	if !begun {
		started <- err
	}
	return cmp.Or(context.Cause(ctx), err)
}

// errNoMounts explains the EINVAL of a root that is a folder of another file
// system: the kernel makes only mount points private.
// Source: mount(2), MS_PRIVATE; mount_namespaces(7).
var errNoMounts = errors.New("its mounts cannot be kept apart from the host's: / is no mount point, as in a plain chroot; run outside of it, or bind-mount its root on itself first")

func (s Service) startFailure(err error, said *tail) error {
	if s.PrivateMounts && errors.Is(err, syscall.EINVAL) {
		err = fmt.Errorf("%w (%w)", errNoMounts, err)
	}
	return s.failure(err, said)
}

// errEarlyEnd is a server that came to its end before its socket answered.
var errEarlyEnd = errors.New("ended before it was ready")

func (s *Server) awaitSocket(ctx context.Context, spec Service) error {
	limit := spec.Ready
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer on its socket within %v", limit))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", spec.Socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			return spec.failure(cmp.Or(s.err, errEarlyEnd), s.said)
		case <-ctx.Done():
			return spec.failure(context.Cause(ctx), s.said)
		case <-tick.C:
		}
	}
}

// Pid is the server's process ID.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is how the server ended: nil while it runs and after a clean exit.
func (s *Server) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	if s.err == nil {
		return nil
	}
	return s.spec.failure(s.err, s.said)
}

// Stderr is the last of what the server said.
func (s *Server) Stderr() string { return s.said.String() }

// Stop asks the server to end, kills it after a grace, and waits for it.
// Ending on our signal is not an error; stopping twice is harmless.
func (s *Server) Stop() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return s.Kill()
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(grace):
		return s.Kill()
	}
}

// Kill ends the server at once and waits for it.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	<-s.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
