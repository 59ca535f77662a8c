package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/downloads"
)

// image has the commands that make more appliances of one.
func (a *app) image() *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: "Make more appliances of one: images with settings of their own",
		Long: `Make more appliances of one: an image for a stick, or an OVA for vSphere, that starts
with its name, its network and whom to trust, and joins the fleet by itself. The
appliance that is asked makes it of its own disk, or of an image in a storage. Admins
may do that. See docs/appliance.md.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: image has no command %q: see hyper2kvm image --help", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.imageMake(), a.imageFetch(), a.asking("list", "List the images that can be fetched", noArgs, a.images),
		a.asking("remove ID", "Make an image end that was made to be fetched", oneArg("ID"), func(ctx context.Context, conn *client.Conn, args []string) error {
			return conn.RemoveDownload(ctx, args[0])
		}))
	return c
}

func (a *app) imageMake() *cobra.Command {
	var form, base, output string
	var join bool
	var r model.DownloadRequest
	var life time.Duration
	said := newSeedFlags()
	c := a.asking("make", "Make an image with settings of its own, and fetch it", noArgs, func(ctx context.Context, conn *client.Conn, _ []string) error {
		values, err := said.values()
		if err != nil {
			return err
		}
		maps.DeleteFunc(values, func(_, text string) bool { return text == "" })
		if base != "" {
			if r.Base.Storage, r.Base.Path, err = storagePlace(base); err != nil {
				return err
			}
		}
		r.Form, r.Settings, r.Join, r.Seconds = model.DownloadForm(form), values, join, int(life.Seconds())
		d, err := conn.MakeDownload(ctx, r)
		if err != nil {
			return err
		}
		return a.fetched(ctx, conn, d, output)
	})
	c.Long = `Make an image with settings of its own, and fetch it. The settings are those of
hyper2kvm seed, and are checked as the new appliance will read them. Whoever has the
image can read what is secret in it, and join with it: hand it on as you would a
password. A fetch that was interrupted is gone on with by hyper2kvm image fetch.`
	said.add(c)
	c.Flags().StringVar(&form, "form", string(model.DownloadFormRaw), "what the image is for: raw (a stick or a disk) or ova (vSphere)")
	c.Flags().BoolVar(&join, "join", false, "the new appliance joins the fleet as a worker at its first start")
	c.Flags().StringArrayVar(&r.Addresses, "join-address", nil, "with --join, host and port at which it reaches this API (may be repeated; default: as the appliance that is asked knows them)")
	c.Flags().DurationVar(&life, "within", downloads.DefaultLife, "how long it can be fetched and joined with, 168h at most")
	c.Flags().StringVar(&base, "base", "", "image in a storage that it is made of, STORAGE:PATH, instead of the appliance's own disk")
	c.Flags().StringVarP(&output, "output", "o", "", "file that it is fetched to (default: the new appliance's name)")
	return c
}

func (a *app) imageFetch() *cobra.Command {
	var output string
	c := a.asking("fetch ID", "Fetch an image that was made, or go on with that", oneArg("ID"), func(ctx context.Context, conn *client.Conn, args []string) error {
		d, err := conn.ReadDownload(ctx, args[0])
		if err != nil {
			return err
		}
		return a.fetched(ctx, conn, d, output)
	})
	c.Flags().StringVarP(&output, "output", "o", "", "file that it is fetched to (default: the new appliance's name)")
	return c
}

// askImage is how often it is asked whether an image is ready.
const askImage = 2 * time.Second

// errImage is an image that the appliance could not make.
var errImage = errors.New("the appliance could not make the image")

// fetched fetches an image when it is ready. What is there of it has its ID in its name,
// so that no other image is gone on with.
func (a *app) fetched(ctx context.Context, conn *client.Conn, d model.Download, path string) (err error) {
	path = cmp.Or(path, filepath.Base(d.Name))
	defer func() {
		if err != nil && d.State != model.DownloadStateFailed {
			err = fmt.Errorf("%w: hyper2kvm image fetch %s -o %s goes on with it", err, d.ID, path)
		}
	}()
	if d.State == model.DownloadStatePreparing {
		fmt.Fprintf(a.stderr, "the image %s is being made\n", d.ID)
	}
	for d.State == model.DownloadStatePreparing {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(askImage):
		}
		if d, err = conn.ReadDownload(ctx, d.ID); err != nil {
			return err
		}
	}
	if d.State == model.DownloadStateFailed {
		return fmt.Errorf("%w: %s", errImage, d.Detail)
	}
	f := afar{d.Size, func(ctx context.Context, at int64) (io.ReadCloser, error) { return conn.FetchDownload(ctx, d, at) }}
	if err := f.fetch(ctx, path, path+"."+d.ID+partly); err != nil {
		return err
	}
	return a.print(fmt.Sprintf("%s: %s, until %s\n", path, size(d.Size), d.Expires.Local().Format(time.DateTime)))
}

func (a *app) images(ctx context.Context, conn *client.Conn, _ []string) error {
	list, err := conn.Downloads(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "FILE", "STATE", "SIZE", "UNTIL"}}
	for _, d := range list {
		rows = append(rows, []string{d.ID, d.Name, string(d.State), size(d.Size), d.Expires.Local().Format(time.DateTime)})
	}
	return a.table(rows)
}
