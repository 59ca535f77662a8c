package client

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"hyper2kvm/agent/api/model"
)

// MakeDownload has another appliance made, to be fetched when it is ready.
func (c *Conn) MakeDownload(ctx context.Context, r model.DownloadRequest) (model.Download, error) {
	return into[model.Download](c.api.MakeDownload(ctx, r))
}

// Downloads are those of other appliances, the newest first.
func (c *Conn) Downloads(ctx context.Context) ([]model.Download, error) {
	list, err := into[struct{ Items []model.Download }](c.api.ListDownloads(ctx))
	return list.Items, err
}

// ReadDownload is how one of them stands.
func (c *Conn) ReadDownload(ctx context.Context, id string) (model.Download, error) {
	return into[model.Download](c.api.ReadDownload(ctx, id))
}

// RemoveDownload makes one of them end.
func (c *Conn) RemoveDownload(ctx context.Context, id string) error {
	return done(c.api.RemoveDownload(ctx, id))
}

// FetchDownload is a download's content from a byte on, if it is still the one that its
// ETag says. The caller closes it.
func (c *Conn) FetchDownload(ctx context.Context, d model.Download, from int64) (io.ReadCloser, error) {
	return begun(d.Name, from)(c.api.FetchDownload(ctx, d.ID, d.Name, since(from, d.Etag)))
}

// since asks for what comes from a byte on, if what is there has the ETag.
func since(from int64, etag string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		if from == 0 {
			return nil
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if etag != "" {
			r.Header.Set("If-Range", etag)
		}
		return nil
	}
}

// begun is the body of an answer that begins at a byte.
func begun(name string, from int64) func(*http.Response, error) (io.ReadCloser, error) {
	return func(reply *http.Response, err error) (io.ReadCloser, error) {
		if err != nil {
			return nil, err
		}
		err = refused(reply)
		if err == nil && from > 0 && reply.StatusCode != http.StatusPartialContent {
			err = fmt.Errorf("%s is sent from its beginning, and not from byte %d: it is another one now; remove the part that is here", name, from)
		}
		if err != nil {
			return nil, closed(reply.Body, err)
		}
		return reply.Body, nil
	}
}
