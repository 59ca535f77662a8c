package files

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/call"
	"hyper2kvm/pipeline/proc"
)

// Part is the name of this process's part: its argv[0].
const Part = "hyper2kvm-files"

// Service is the process that Serve is. It is handed the far ends of a call's socket
// and of a Keeper's, a window, and the folder under which the guest will be mounted:
// nothing else will it see.
func Service(base string, calls, attrs, window *os.File) proc.Service {
	return proc.Service{
		Command:  proc.Command{Name: Part, Args: []string{base}, Memory: maxMemory, Keep: capabilities},
		Part:     true,
		NoSocket: true,
		Files:    []*os.File{calls, attrs, window},
	}
}

// maxMemory is what the process may have, several times what it needs: it holds a
// folder's list or a file's attributes.
const maxMemory = 160 << 20

// Serve is the process: it gives up all that it does not need, and answers a Client.
func Serve(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s is a part of the program, not a command", Part)
	}
	attrs, err := keeperSocket(proc.Handed(1, "attributes"))
	if err != nil {
		return err
	}
	window, err := openWindow(proc.Handed(2, "window"))
	if err != nil {
		return err
	}
	s := server(NewRoot(NewRemote(attrs), window))
	if err := confine(args[1]); err != nil {
		return err
	}
	return s.ServeInTurn(context.Background(), proc.Handed(0, "calls"))
}

// The arguments of calls.
type (
	readArgs struct {
		Name          string
		Offset, Limit int64
	}
	writeArgs struct {
		Name   string
		Offset int64
		Length int
		Last   bool
	}
	truncateArgs struct {
		Name string
		Size int64
	}
	mkdirArgs struct {
		Name string
		Mode fs.FileMode
	}
	symlinkArgs struct{ Target, Name string }
	metaArgs    struct {
		Name string
		Meta guest.Meta
	}
)

// xattrs is a result that may hold no map.
type xattrs struct{ Values map[string][]byte }

// server answers with a guest's files.
func server(r *Root) *call.Server {
	s := call.NewServer()
	handle(s, "enter", func(folder string) (call.None, error) { return call.None{}, r.Enter(folder) })
	handle(s, "leave", func(call.None) (call.None, error) { return call.None{}, r.Leave() })
	handle(s, "read", func(a readArgs) (piece, error) { return r.readPiece(a.Name, a.Offset, a.Limit) })
	handle(s, "lstat", r.Lstat)
	handle(s, "readdir", r.ReadDir)
	handle(s, "readlink", r.Readlink)
	handle(s, "xattrs", func(name string) (xattrs, error) {
		values, err := r.Xattrs(name)
		return xattrs{values}, err
	})
	handle(s, "space", r.Space)
	handle(s, "write", func(a writeArgs) (call.None, error) {
		return call.None{}, r.writePiece(a.Name, a.Offset, a.Length, a.Last)
	})
	handle(s, "truncate", func(a truncateArgs) (call.None, error) { return call.None{}, r.Truncate(a.Name, a.Size) })
	handle(s, "mkdir", func(a mkdirArgs) (call.None, error) { return call.None{}, r.Mkdir(a.Name, a.Mode) })
	handle(s, "symlink", func(a symlinkArgs) (call.None, error) { return call.None{}, r.Symlink(a.Target, a.Name) })
	handle(s, "remove", func(name string) (call.None, error) { return call.None{}, r.Remove(name) })
	handle(s, "setmeta", func(a metaArgs) (call.None, error) { return call.None{}, r.SetMeta(a.Name, a.Meta) })
	return s
}

func handle[A, R any](s *call.Server, name string, f func(A) (R, error)) {
	call.Handle(s, name, func(_ context.Context, args A) (R, error) { return f(args) })
}
