package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/disk"
)

// https reads the files of a disk from the server's web access to its datastores, in
// ranges: nothing is needed for it but the session.
//
// Source: vSphere Web Services SDK Programming Guide, "HTTP Access to vSphere Server
// Files".
var https = Transport{
	Name: "https",
	Does: "reads the disk's files through the server's datastore browser, over HTTPS",
	Open: openHTTPS,
}

func openHTTPS(ctx context.Context, a Access, d Disk) (disk.Remote, error) {
	if a.HTTP == nil || a.Server == nil || a.Cookie == nil {
		return nil, fmt.Errorf("%w: there is no session at the server", ErrUnusable)
	}
	f := &folder{web: newWeb(a.HTTP, &cookie{get: a.Cookie}), server: a.Server, datacenter: d.Datacenter, running: d.Snapshot == ""}
	r, err := overFiles(ctx, d, f.open)
	if err != nil {
		f.web.close()
		return nil, err
	}
	return &closing{Remote: r, then: func() error { f.web.close(); return nil }}, nil
}

// folder is a server's datastores as it offers them under /folder.
type folder struct {
	web        *web
	server     *url.URL
	datacenter string // its inventory path; an ESXi host has the one of esxiDatacenter
	running    bool   // the disk is read without a snapshot: a VM that runs locks it
}

// esxiDatacenter is the name that each ESXi host gives to its only datacenter. It need
// not be said.
const esxiDatacenter = "ha-datacenter"

// url is where a file is. What stands between slashes is escaped, plus signs in the
// query too: a server takes those for spaces.
func (f *folder) url(p datastorePath) *url.URL {
	var parts []string
	for part := range strings.SplitSeq(p.file, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	q := "dsName=" + queryEscape(p.datastore)
	if dc := strings.Trim(f.datacenter, "/"); dc != "" && dc != esxiDatacenter {
		q = "dcPath=" + queryEscape(dc) + "&" + q
	}
	return &url.URL{Scheme: f.server.Scheme, Host: f.server.Host, Path: "/folder/" + p.file, RawPath: "/folder/" + strings.Join(parts, "/"), RawQuery: q}
}

// queryEscape escapes all that is not a letter, a digit or one of -_.~ in UTF-8.
func queryEscape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// open finds out how large a file is.
func (f *folder) open(ctx context.Context, name string) (fileReader, error) {
	p, err := parsePath(name)
	if err != nil {
		return nil, err
	}
	file := &folderFile{folder: f, name: p.String(), url: f.url(p)}
	if err := file.measure(ctx); err != nil {
		return nil, file.opening(err)
	}
	return file, nil
}

// folderFile is a file under /folder.
type folderFile struct {
	*folder
	name string
	url  *url.URL
	size int64
}

// Name implements disk.File.
func (f *folderFile) Name() string { return f.name }

// Size implements disk.File.
func (f *folderFile) Size() int64 { return f.size }

// Close implements disk.File. There is nothing to close but connections, which all
// files of a disk use.
func (f *folderFile) Close() error { return nil }

// opening says what a file that cannot be opened means.
func (f *folderFile) opening(err error) error {
	switch {
	case errors.Is(err, errNoFile):
		return fmt.Errorf("%w: %s: %w", ErrUnusable, f.name, err)
	case errors.Is(err, errForbidden):
		return fmt.Errorf("%w: %s: %w; give the user the privileges Datastore.Browse and Datastore.FileManagement on the datastore", ErrUnusable, f.name, err)
	case errors.Is(err, errLocked) && f.running:
		return fmt.Errorf("%w: %s: %w, as is so while a VM runs from it; shut the VM down, or read the disk from a snapshot", ErrUnusable, f.name, err)
	}
	return fmt.Errorf("%s: %w", f.name, err)
}

// measure asks for the first byte, which tells the file's size, and whether the server
// answers ranges at all.
func (f *folderFile) measure(ctx context.Context) error {
	first := func() http.Header { return ranged(0, 1) }
	return f.web.do(ctx, f.url, first, func(a *http.Response) error {
		if a.StatusCode != http.StatusPartialContent {
			return verdict{errNoRanges}
		}
		from, to, total, err := contentRange(a)
		if err != nil || from != 0 || to != 1 {
			return verdict{errors.Join(err, wrongRange(a))}
		}
		f.size = total
		_, err = io.CopyN(io.Discard, a.Body, 1)
		return err
	})
}

// errNoRanges is a server, or something on the way to it, that answers with whole files.
var errNoRanges = fmt.Errorf("%w: the server does not answer ranges, but sends whole files", ErrUnusable)

// ReadAt implements disk.File.
func (f *folderFile) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	n := min(int64(len(p)), f.size-at)
	if at < 0 || n < 0 || n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	if n == 0 {
		return 0, nil
	}
	if err := f.read(ctx, p[:n], at); err != nil {
		return 0, f.reading(ctx, err)
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// reading says what a failure in the middle means: the file was there.
func (f *folderFile) reading(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errNoFile):
		return fmt.Errorf("%s %w: %w", f.name, ErrGone, err)
	}
	return fmt.Errorf("%s: %w", f.name, err)
}

// read fills p with what lies at a place. What a cut connection has brought is not
// asked for again.
func (f *folderFile) read(ctx context.Context, p []byte, at int64) error {
	rest := func() http.Header { return ranged(at, int64(len(p))) }
	return f.web.do(ctx, f.url, rest, func(a *http.Response) error {
		if err := f.answers(a, at, int64(len(p))); err != nil {
			return verdict{err}
		}
		n, err := io.ReadFull(a.Body, p)
		p, at = p[n:], at+int64(n)
		if more, _ := io.CopyN(io.Discard, a.Body, 1); err == nil && more > 0 {
			return verdict{fmt.Errorf("%w: more bytes come for %q", errWrongRange, a.Request.Header.Get("Range"))}
		}
		return err
	})
}

// answers refuses an answer that is not the range that was asked for, of the same file.
func (f *folderFile) answers(a *http.Response, at, n int64) error {
	if a.StatusCode != http.StatusPartialContent {
		return errNoRanges
	}
	from, to, total, err := contentRange(a)
	switch {
	case err != nil:
		return err
	case from != at || to != at+n:
		return wrongRange(a)
	case total != f.size:
		return fmt.Errorf("it had %d bytes, and now has %d: something writes it", f.size, total)
	case a.ContentLength >= 0 && a.ContentLength != n:
		return fmt.Errorf("%w: %d bytes come for a range of %d", errWrongRange, a.ContentLength, n)
	}
	return nil
}

// ranged asks for n bytes from at on.
func ranged(at, n int64) http.Header {
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, at+n-1)}}
}

// errWrongRange is a server, or something on the way to it, that does not send what was
// asked for.
var errWrongRange = errors.New("the server sends another range than the one that was asked for")

func wrongRange(a *http.Response) error {
	return fmt.Errorf("%w: %.60q for %q", errWrongRange, a.Header.Get("Content-Range"), a.Request.Header.Get("Range"))
}

// Source: RFC 9110, 14.4.
var contentRanges = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18})$`)

// contentRange is what an answer says that it holds, the end excluded, and of how much.
func contentRange(a *http.Response) (from, to, total int64, err error) {
	m := contentRanges.FindStringSubmatch(a.Header.Get("Content-Range"))
	if m == nil {
		return 0, 0, 0, wrongRange(a)
	}
	var numbers [3]int64
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(m[i+1], 10, 64); err != nil {
			return 0, 0, 0, err
		}
	}
	return numbers[0], numbers[1] + 1, numbers[2], nil
}
