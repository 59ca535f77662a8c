// Package esxitest is an ESXi host's SSH server, for tests.
package esxitest

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Password is root's.
const Password = "hunter2 \"+;"

// Host is an SSH and SFTP server with a folder in place of an ESXi host's root: real
// SSH over TCP. That ESXi's own server answers as this one does it does not prove.
type Host struct {
	Root    string
	Address *net.TCPAddr
	Key     ssh.Signer   // the host's
	Most    atomic.Int64 // bytes of a file in one answer; any if zero
	Silent  atomic.Bool  // reads are not answered
	Slow    atomic.Bool  // reads take a while
	Deaf    atomic.Bool  // signs of life are not given

	listener net.Listener
	wrote    atomic.Bool // somebody asked for more than to read

	mu     sync.Mutex
	config ssh.ServerConfig
	conns  []net.Conn // all that there were
}

// Change changes how one logs in.
func (e *Host) Change(f func(*ssh.ServerConfig)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.config)
}

// NewKey makes a key.
func NewKey(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, key
}

// Start starts a host, which ends with the test.
func Start(t testing.TB) *Host {
	t.Helper()
	e := &Host{Root: t.TempDir()}
	e.Key, _ = NewKey(t)
	e.config.AddHostKey(e.Key)
	e.config.PasswordCallback = func(c ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if c.User() == "root" && string(p) == Password {
			return nil, nil
		}
		return nil, errors.New("no")
	}
	var err error
	if e.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	e.Address = e.listener.Addr().(*net.TCPAddr)
	go e.accept()
	t.Cleanup(func() {
		e.Stop()
		e.Cut()
		if e.wrote.Load() {
			t.Error("the host was asked to change something")
		}
	})
	return e
}

// Known is a known_hosts file that says that a key is the host's.
func (e *Host) Known(t testing.TB, key ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte("# ours\n"+knownhosts.Line([]string{knownhosts.Normalize(e.Address.String())}, key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Stop takes no more connections.
func (e *Host) Stop() { e.listener.Close() }

func (e *Host) accept() {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		e.conns = append(e.conns, conn)
		e.mu.Unlock()
		go e.serve(conn)
	}
}

// Cut ends all connections.
func (e *Host) Cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		c.Close()
	}
}

// Dials counts the connections that there were.
func (e *Host) Dials() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

func (e *Host) serve(conn net.Conn) {
	defer conn.Close()
	e.mu.Lock()
	config := e.config
	e.mu.Unlock()
	_, channels, requests, err := ssh.NewServerConn(conn, &config)
	if err != nil {
		return
	}
	go func() {
		for r := range requests {
			if !e.Deaf.Load() {
				r.Reply(false, nil)
			}
		}
	}()
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			sftps := r.Type == "subsystem" && string(r.Payload[4:]) == "sftp"
			r.Reply(sftps, nil)
			if sftps {
				go sftp.NewRequestServer(channel, sftp.Handlers{FileGet: e, FileList: e, FilePut: e, FileCmd: e}).Serve()
			}
		}
	}
}

// Fileread implements sftp.FileReader.
func (e *Host) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	f, err := os.Open(filepath.Join(e.Root, r.Filepath))
	if err != nil {
		return nil, err
	}
	return &file{f, e}, nil
}

// file sends no more at a time than its host wants to.
type file struct {
	*os.File
	host *Host
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if f.host.Silent.Load() {
		time.Sleep(10 * time.Second)
	}
	if f.host.Slow.Load() {
		time.Sleep(50 * time.Millisecond)
	}
	if most := f.host.Most.Load(); most > 0 {
		p = p[:min(int64(len(p)), most)]
	}
	return f.File.ReadAt(p, at)
}

// Filelist implements sftp.FileLister.
func (e *Host) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := os.Stat(filepath.Join(e.Root, r.Filepath))
	if err != nil || r.Method != "Stat" && r.Method != "Lstat" {
		return nil, errors.Join(err, sftp.ErrSSHFxOpUnsupported)
	}
	return one{info}, nil
}

type one struct{ os.FileInfo }

// ListAt implements sftp.ListerAt.
func (o one) ListAt(list []os.FileInfo, at int64) (int, error) {
	if at > 0 || len(list) == 0 {
		return 0, io.EOF
	}
	list[0] = o.FileInfo
	return 1, nil
}

// Filewrite implements sftp.FileWriter.
func (e *Host) Filewrite(*sftp.Request) (io.WriterAt, error) {
	e.wrote.Store(true)
	return nil, sftp.ErrSSHFxPermissionDenied
}

// Filecmd implements sftp.FileCmder.
func (e *Host) Filecmd(*sftp.Request) error {
	e.wrote.Store(true)
	return sftp.ErrSSHFxPermissionDenied
}
