package transport

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
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

// esxi is an SSH and SFTP server with a folder in place of an ESXi host's root: real
// SSH over TCP. That ESXi's own server answers as this one does it does not prove.
type esxi struct {
	root     string
	address  *net.TCPAddr
	key      ssh.Signer // the host's
	listener net.Listener
	most     atomic.Int64 // bytes of a file in one answer; any if zero
	silent   atomic.Bool  // reads are not answered
	slow     atomic.Bool  // reads take a while
	deaf     atomic.Bool  // signs of life are not given
	wrote    atomic.Bool  // somebody asked for more than to read

	mu     sync.Mutex
	config ssh.ServerConfig
	conns  []net.Conn // all that there were
}

// change changes how one logs in.
func (e *esxi) change(f func(*ssh.ServerConfig)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.config)
}

func newKey(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
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

func newESXi(t testing.TB) *esxi {
	t.Helper()
	e := &esxi{root: t.TempDir()}
	e.key, _ = newKey(t)
	e.config.AddHostKey(e.key)
	e.config.PasswordCallback = func(c ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if c.User() == "root" && string(p) == password {
			return nil, nil
		}
		return nil, errors.New("no")
	}
	var err error
	if e.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	e.address = e.listener.Addr().(*net.TCPAddr)
	go e.accept()
	t.Cleanup(func() {
		e.listener.Close()
		e.cut()
		if e.wrote.Load() {
			t.Error("the host was asked to change something")
		}
	})
	return e
}

// access logs in with the password and knows the host's key.
func (e *esxi) access(t testing.TB) *SSH {
	t.Helper()
	return &SSH{User: "root", Port: e.address.Port, Password: func() string { return password }, HostKeys: e.known(t, e.key.PublicKey())}
}

// second gives the host another key, which clients like better, and tells the first.
func (e *esxi) second(t testing.TB) ssh.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	e.change(func(c *ssh.ServerConfig) { c.AddHostKey(signer) })
	return e.key.PublicKey()
}

// known is a file that says that a key is the host's.
func (e *esxi) known(t testing.TB, key ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte("# ours\n"+knownhosts.Line([]string{knownhosts.Normalize(e.address.String())}, key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (e *esxi) accept() {
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

// cut ends all connections.
func (e *esxi) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		c.Close()
	}
}

// dials counts the connections that there were.
func (e *esxi) dials() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

func (e *esxi) serve(conn net.Conn) {
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
			if !e.deaf.Load() {
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
func (e *esxi) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	f, err := os.Open(filepath.Join(e.root, r.Filepath))
	if err != nil {
		return nil, err
	}
	return &esxiFile{f, e}, nil
}

// esxiFile sends no more at a time than its host wants to.
type esxiFile struct {
	*os.File
	host *esxi
}

func (f *esxiFile) ReadAt(p []byte, at int64) (int, error) {
	if f.host.silent.Load() {
		time.Sleep(10 * time.Second)
	}
	if f.host.slow.Load() {
		time.Sleep(50 * time.Millisecond)
	}
	if most := f.host.most.Load(); most > 0 {
		p = p[:min(int64(len(p)), most)]
	}
	return f.File.ReadAt(p, at)
}

// Filelist implements sftp.FileLister.
func (e *esxi) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := os.Stat(filepath.Join(e.root, r.Filepath))
	if err != nil || r.Method != "Stat" && r.Method != "Lstat" {
		return nil, errors.Join(err, sftp.ErrSSHFxOpUnsupported)
	}
	return one{info}, nil
}

type one struct{ os.FileInfo }

func (o one) ListAt(list []os.FileInfo, at int64) (int, error) {
	if at > 0 || len(list) == 0 {
		return 0, io.EOF
	}
	list[0] = o.FileInfo
	return 1, nil
}

// Filewrite implements sftp.FileWriter.
func (e *esxi) Filewrite(*sftp.Request) (io.WriterAt, error) {
	e.wrote.Store(true)
	return nil, sftp.ErrSSHFxPermissionDenied
}

// Filecmd implements sftp.FileCmder.
func (e *esxi) Filecmd(*sftp.Request) error {
	e.wrote.Store(true)
	return sftp.ErrSSHFxPermissionDenied
}

// disk puts a flat disk on a datastore.
func (e *esxi) disk(t testing.TB, datastore, name string, all []byte) Disk {
	t.Helper()
	folder := filepath.Join(e.root, "vmfs", "volumes", datastore, name)
	sparse(t, filepath.Join(folder, name+"-flat.vmdk"), all)
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\nRW %d VMFS \"%s-flat.vmdk\"\n", len(all)/sector, name)
	if err := os.WriteFile(filepath.Join(folder, name+".vmdk"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Disk{VM: "7", Host: e.address.IP.String(), Files: []string{fmt.Sprintf("[%s] %s/%s.vmdk", datastore, name, name)}, Size: int64(len(all))}
}

// keyFile is a file with a private key.
func keyFile(t testing.TB, key ed25519.PrivateKey, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
