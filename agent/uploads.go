package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/source"
)

// libraries are what is uploaded without a storage.
var libraries = map[string]model.LibraryName{"vddk": model.LibraryNameVddk, "virtio-win": model.LibraryNameVirtioWin}

func (a *app) upload() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use: "upload FILE STORAGE:PATH|vddk|virtio-win", Short: "Upload a disk into a storage, or a library that cannot be shipped",
		Long: `Upload a file into a storage of an appliance, or VMware's VDDK (the tar.gz) or the ISO
of virtio-win for it. Until it is whole it ends in .part there. An upload that was
interrupted goes on where it was when the same command is given again.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%w: upload takes a FILE, and STORAGE:PATH, vddk or virtio-win: see hyper2kvm upload --help", errUsage)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			to := client.Destination{Library: libraries[args[1]], Replace: replace}
			if to.Library == "" {
				var err error
				if to.Storage, to.Path, err = storagePlace(args[1]); err != nil {
					return err
				}
			}
			return a.send(c.Context(), args[0], to)
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "put it in the place of a file that is there")
	return c
}

// between is how long nothing is told of an upload.
const between = 5 * time.Second

func (a *app) send(ctx context.Context, name string, to client.Destination) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrBadInput, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return errors.Join(fmt.Errorf("%w: %s is no file, or an empty one", source.ErrBadInput, name), err)
	}
	conn, err := a.dial()
	if err != nil {
		return err
	}
	last := time.Now()
	return conn.Upload(ctx, to, f, info.Size(), func(come int64) {
		if time.Since(last) > between {
			last = time.Now()
			fmt.Fprintf(a.stderr, "%s of %s\n", size(come), size(info.Size()))
		}
	})
}

func (a *app) backup() *cobra.Command {
	var to, passphrase string
	c := &cobra.Command{
		Use: "backup", Short: "Back up what an appliance keeps, for hyper2kvm restore", Args: noArgs,
		Long: `Back up what an appliance keeps: migrations, users, tokens, secrets as they are sealed,
the audit log. Disks and results are not in it. With a passphrase the private files are
in it too, encrypted with that: the key that opens sealed secrets, the certificate's.`,
		RunE: func(c *cobra.Command, _ []string) error {
			secret, err := a.passphrase(passphrase)
			if err != nil {
				return err
			}
			defer secret.Wipe()
			return a.archive(to, func(conn *client.Conn) (string, io.ReadCloser, error) {
				return conn.Backup(c.Context(), string(secret))
			})
		},
	}
	c.Flags().StringVar(&to, "to", ".", "folder to put it into")
	c.Flags().StringVar(&passphrase, "passphrase", "", "to encrypt the private files with: file:FILE, or prompt")
	return c
}

func (a *app) supportBundle() *cobra.Command {
	var to string
	var migrations int
	c := &cobra.Command{
		Use: "support-bundle", Short: "Get what helps to find out what went wrong on an appliance, without secrets", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.archive(to, func(conn *client.Conn) (string, io.ReadCloser, error) {
				return conn.SupportBundle(c.Context(), migrations)
			})
		},
	}
	c.Flags().StringVar(&to, "to", ".", "folder to put it into")
	c.Flags().IntVar(&migrations, "migrations", 20, "how many of the last migrations are in it")
	return c
}

// archive puts an archive into a folder, under a name of its own until it is whole, and
// prints where it is.
func (a *app) archive(folder string, get func(*client.Conn) (string, io.ReadCloser, error)) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	name, content, err := get(conn)
	if err != nil {
		return err
	}
	path := filepath.Join(folder, filepath.Base(name))
	if err := errors.Join(write(path+partly, content), content.Close()); err != nil {
		return errors.Join(err, os.Remove(path+partly))
	}
	if err := os.Rename(path+partly, path); err != nil {
		return err
	}
	return a.print(path + "\n")
}

func write(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}
