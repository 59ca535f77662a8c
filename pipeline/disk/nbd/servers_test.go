package nbd

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// nbdkit serves with the arguments given, and returns how to reach it.
func nbdkit(t testing.TB, args ...string) (Options, *proc.Server) {
	t.Helper()
	socket := filepath.Join(privateDir(t), "nbd.sock")
	return Options{Socket: socket}, serve(t, "nbdkit", socket, append([]string{"-f", "-U", socket}, args...)...)
}

// qemuNBD serves with the arguments given, and returns how to reach it.
func qemuNBD(t testing.TB, args ...string) (Options, *proc.Server) {
	t.Helper()
	socket := filepath.Join(privateDir(t), "nbd.sock")
	return Options{Socket: socket}, serve(t, "qemu-nbd", socket, append([]string{"-t", "-e", "16", "-k", socket}, args...)...)
}

func serve(t testing.TB, program, socket string, args ...string) *proc.Server {
	t.Helper()
	need(t, program)
	s, err := proc.Start(t.Context(), proc.Service{Command: proc.Command{Name: program, Args: args}, Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func privateDir(t testing.TB) string {
	t.Helper()
	dir, err := proc.PrivateDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func dial(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func need(t testing.TB, program string) {
	t.Helper()
	_, err := proc.Look(program)
	switch {
	case err != nil && os.Getenv("NEED_TOOLS") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

// run runs a program to its end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	need(t, name)
	out, err := proc.Run(context.WithoutCancel(t.Context()), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
