package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/source"
)

// updateFlags are those of an update.
type updateFlags struct {
	restart bool
	ca      string
	output  string
}

func (a *app) update() *cobra.Command {
	var f updateFlags
	c := a.asking("update [FILE|STORAGE:PATH|https://…]", "Tell which versions an appliance has, or update it", oneUpdate, func(ctx context.Context, conn *client.Conn, args []string) error {
		if f.output != "text" && f.output != "json" {
			return fmt.Errorf("%w: --output %s: want text or json", errUsage, f.output)
		}
		u, err := a.updated(ctx, conn, f, args)
		if err != nil {
			return err
		}
		if f.output == "json" {
			return a.json(u)
		}
		return a.table(versions(u))
	})
	c.Long = `Tell which versions of itself an appliance has on its disk; or update it with a file of
this machine, of one of its storages, or of a web server: hyper2kvm-VERSION.update.

An update goes where the version that runs is not, and is started next, three times at
most. When its agent is ready it is kept; otherwise the version before starts again.

It asks the appliance of --appliance, or the agent of this machine by its socket.`
	c.Flags().BoolVar(&f.restart, "restart", false, "restart the appliance when the update is installed, unless migrations run")
	c.Flags().StringVar(&f.ca, "server-ca", "", "file with the CA that signs the web server's certificate, PEM")
	c.Flags().StringVar(&f.output, "output", "text", "text or json")
	c.AddCommand(a.confirm())
	return c
}

func oneUpdate(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: update takes one update at most, not %d: see hyper2kvm update --help", errUsage, len(args))
	}
	return nil
}

// updated updates the appliance, if that is asked for, and tells how it is then.
func (a *app) updated(ctx context.Context, conn *client.Conn, f updateFlags, args []string) (model.Update, error) {
	switch {
	case len(args) == 0 && (f.restart || f.ca != ""):
		return model.Update{}, fmt.Errorf("%w: name the update: a FILE, STORAGE:PATH or a URL", errUsage)
	case len(args) == 0:
		return conn.Update(ctx)
	case !strings.Contains(args[0], ":"):
		return a.sendUpdate(ctx, conn, f, args[0])
	}
	r := model.UpdateRequest{Restart: f.restart}
	var err error
	if strings.HasPrefix(args[0], "https://") {
		r.URL, err = args[0], f.authority(&r)
	} else {
		r.Storage, r.Path, err = storagePlace(args[0])
	}
	if err != nil {
		return model.Update{}, err
	}
	u, err := conn.StartUpdate(ctx, r)
	if err != nil {
		return u, err
	}
	return a.awaitUpdate(ctx, conn, u)
}

func (f updateFlags) authority(r *model.UpdateRequest) error {
	if f.ca == "" {
		return nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return fmt.Errorf("%w: --server-ca: %w", errUsage, err)
	}
	r.Ca = string(text)
	return nil
}

// sendUpdate sends a file of this machine.
func (a *app) sendUpdate(ctx context.Context, conn *client.Conn, f updateFlags, name string) (u model.Update, err error) {
	file, err := os.Open(name)
	if err != nil {
		return u, fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return u, errors.Join(fmt.Errorf("%w: %s is no file", source.ErrBadInput, name), err)
	}
	sent := &telling{Reader: file, app: a, size: info.Size(), last: time.Now()}
	return conn.PutUpdate(ctx, sent, info.Size(), f.restart)
}

// telling tells now and then how much of a file was read.
type telling struct {
	io.Reader
	app     *app
	n, size int64
	last    time.Time
}

func (t *telling) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if t.n += int64(n); time.Since(t.last) > between {
		t.last = time.Now()
		fmt.Fprintf(t.app.stderr, "%s of %s\n", size(t.n), size(t.size))
	}
	return n, err
}

// awaitUpdate waits until an update is installed that the appliance takes by itself.
func (a *app) awaitUpdate(ctx context.Context, conn *client.Conn, u model.Update) (model.Update, error) {
	for u.Installing.From != "" {
		select {
		case <-ctx.Done():
			return u, context.Cause(ctx)
		case <-time.After(between):
		}
		var err error
		if u, err = conn.Update(ctx); err != nil {
			return u, err
		}
		if u.Installing.From != "" {
			fmt.Fprintf(a.stderr, "%s are written\n", size(u.Installing.Written))
		}
	}
	if u.Problem.Code != "" {
		return u, &client.Refusal{Problem: u.Problem}
	}
	return u, nil
}

// versions is what people are told of them.
func versions(u model.Update) [][]string {
	runs := u.Running
	if u.Trial {
		runs += ", on trial"
	}
	rows := [][]string{{"runs", runs}}
	if u.Other != "" {
		rows = append(rows, []string{"beside it", fmt.Sprintf("%s, %s", u.Other, strings.ReplaceAll(string(u.State), "-", " "))})
	}
	if !u.Takes {
		rows = append(rows, []string{"updates", u.Why})
	}
	if u.Note != "" {
		rows = append(rows, []string{"note", u.Note})
	}
	return rows
}
