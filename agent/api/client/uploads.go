package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/upload"
)

// Destination is where a file is uploaded to: a place in a storage, or a library.
type Destination struct {
	Storage, Path string
	Library       model.LibraryName
	Replace       bool // a file that is there
}

// Of uploads: how much a request brings, bytes, and how often in a row one may bring
// nothing.
const (
	uploadPart  = 64 << 20
	uploadTries = 5
)

// Upload sends a file in parts, and goes on where an upload of it was. Told is called
// with how much has come.
func (c *Conn) Upload(ctx context.Context, to Destination, file io.ReaderAt, size int64, told func(come int64)) error {
	s := &sending{conn: c, to: to, file: file, size: size, hash: sha256.New()}
	at, err := s.offset(ctx)
	if err != nil {
		return err
	}
	for left := uploadTries; ; {
		whole, err := s.part(ctx, at)
		if err == nil && whole {
			told(size)
			return nil
		}
		now, failed := s.after(ctx, at, err)
		if failed != nil {
			return failed
		}
		if left--; now != at {
			left = uploadTries
		}
		if left == 0 {
			return err
		}
		at = now
		told(at)
	}
}

// sending is a file on its way.
type sending struct {
	conn   *Conn
	to     Destination
	file   io.ReaderAt
	size   int64
	hash   hash.Hash
	hashed int64 // bytes of which hash is
}

// after is where to go on after a part: where the appliance says, if a connection was
// lost.
func (s *sending) after(ctx context.Context, at int64, err error) (int64, error) {
	if err == nil {
		return min(at+uploadPart, s.size), nil
	}
	if r, ok := errors.AsType[*Refusal](err); ok && r.Code != "wrong-offset" && r.Code != "cut-short" && r.Code != "busy" || ctx.Err() != nil {
		return 0, err
	}
	now, failed := s.offset(ctx)
	if failed != nil {
		return 0, errors.Join(err, failed)
	}
	return now, nil
}

// offset is how much of the file has come.
func (s *sending) offset(ctx context.Context) (int64, error) {
	var reply *http.Response
	var err error
	if s.to.Library != "" {
		reply, err = s.conn.api.ReadLibraryUpload(ctx, s.to.Library)
	} else {
		reply, err = s.conn.api.ReadUpload(ctx, s.to.Storage, s.to.Path)
	}
	u, err := into[model.Upload](reply, err)
	if r, ok := errors.AsType[*Refusal](err); ok && r.Status == http.StatusNotFound && r.Code == "not-there" {
		return 0, nil
	}
	return u.Offset, err
}

// part sends what comes next, and tells whether the file is in its place then.
func (s *sending) part(ctx context.Context, at int64) (whole bool, err error) {
	n := min(uploadPart, s.size-at)
	span, digest := fmt.Sprintf("bytes */%d", s.size), ""
	if n > 0 {
		span = fmt.Sprintf("bytes %d-%d/%d", at, at+n-1, s.size)
	}
	if at+n == s.size {
		if digest, err = s.digest(); err != nil {
			return false, err
		}
	}
	body := func() io.Reader { return io.NewSectionReader(s.file, at, n) }
	reply, err := s.put(ctx, span, digest, body(), func(_ context.Context, r *http.Request) error {
		r.ContentLength = n
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
		return nil
	})
	if err := done(reply, err); err != nil {
		return false, err
	}
	return reply.StatusCode != http.StatusAccepted, nil
}

func (s *sending) put(ctx context.Context, span, digest string, body io.Reader, how RequestEditorFn) (*http.Response, error) {
	const kind = "application/octet-stream"
	if s.to.Library != "" {
		return s.conn.api.PutLibraryWithBody(ctx, s.to.Library, &model.PutLibraryParams{ContentRange: span, ReprDigest: digest}, kind, body, how)
	}
	p := &model.UploadPartParams{ContentRange: span, ReprDigest: digest}
	if s.to.Replace {
		p.IfMatch = "*"
	}
	return s.conn.api.UploadPartWithBody(ctx, s.to.Storage, s.to.Path, p, kind, body, how)
}

// digest is that of the whole file.
func (s *sending) digest() (string, error) {
	n, err := io.Copy(s.hash, io.NewSectionReader(s.file, s.hashed, s.size-s.hashed))
	if s.hashed += n; err == nil && s.hashed != s.size {
		err = fmt.Errorf("the file has %d bytes, and had %d", s.hashed, s.size)
	}
	return upload.Digest(s.hash.Sum(nil)), err
}

// Backup is an archive of what the appliance keeps, with its private files if there is a
// passphrase, and what to call it. The caller closes it.
func (c *Conn) Backup(ctx context.Context, passphrase string) (name string, content io.ReadCloser, err error) {
	return archive(c.api.MakeBackup(ctx, model.BackupRequest{Passphrase: passphrase}))
}

// SupportBundle is what helps to find out what went wrong, and what to call it. The
// caller closes it.
func (c *Conn) SupportBundle(ctx context.Context, migrations int) (name string, content io.ReadCloser, err error) {
	return archive(c.api.MakeSupportBundle(ctx, &model.MakeSupportBundleParams{Migrations: migrations}))
}

func archive(reply *http.Response, err error) (string, io.ReadCloser, error) {
	if err != nil {
		return "", nil, err
	}
	if err := refused(reply); err != nil {
		return "", nil, closed(reply.Body, err)
	}
	_, said, err := mime.ParseMediaType(reply.Header.Get("Content-Disposition"))
	if err != nil {
		return "", nil, closed(reply.Body, fmt.Errorf("the appliance does not say what it sends: %w", err))
	}
	return said["filename"], reply.Body, nil
}
