// Package bundle puts together what helps to find out what went wrong with an appliance,
// for whoever its administrator gives that to. Nothing secret is in it: it reads no
// secret, and what looks like one in a log or a report is blotted out.
//
// A part that cannot be had is told of in problems.txt, and keeps no other out.
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/storage"
)

// Source is what a bundle is made of.
type Source struct {
	Engine    *engine.Engine
	Storages  storage.Reached
	Host      func(context.Context) (model.Host, error)
	Versions  func(context.Context) map[string]string
	Settings  string
	Recent    func() []byte // the end of the agent's log
	Appliance string        // its name
	Now       func() time.Time
}

// Bounds, in bytes.
const (
	mostPart     = 8 << 20  // of a part
	mostFile     = 4 << 20  // of a file of a migration's
	mostEvidence = 64 << 20 // of all of those
)

// Name is what to call a bundle that is made now.
func (s *Source) Name() string {
	return "hyper2kvm-" + s.Appliance + "-" + s.Now().UTC().Format("20060102T150405Z") + ".support.tar.gz"
}

// Write writes a bundle with the last migrations.
func (s *Source) Write(ctx context.Context, w io.Writer, migrations int) error {
	packed := gzip.NewWriter(w)
	b := &bundle{tar: tar.NewWriter(packed), at: s.Now().UTC()}
	err := s.write(ctx, b, migrations)
	return errors.Join(err, b.tar.Close(), packed.Close())
}

func (s *Source) write(ctx context.Context, b *bundle, migrations int) error {
	for _, p := range s.parts() {
		text, err := p.read(ctx)
		if err != nil {
			b.trouble(p.name, err)
			continue
		}
		if err := b.add(p.name, text); err != nil {
			return err
		}
	}
	if err := s.migrations(ctx, b, migrations); err != nil {
		return err
	}
	return b.add("problems.txt", []byte(strings.Join(b.problems, "")))
}

// part is a file of a bundle's.
type part struct {
	name string
	read func(context.Context) ([]byte, error)
}

func (s *Source) parts() []part {
	return []part{
		{"versions.json", func(ctx context.Context) ([]byte, error) { return asJSON(s.Versions(ctx), nil) }},
		{"host.json", func(ctx context.Context) ([]byte, error) { return asJSON(s.Host(ctx)) }},
		{"settings.yaml", func(context.Context) ([]byte, error) { return []byte(s.Settings), nil }},
		{"engine.json", func(ctx context.Context) ([]byte, error) { return asJSON(s.Engine.Status(ctx)) }},
		{"appliances.json", func(context.Context) ([]byte, error) { return asJSON(s.Engine.Appliances(), nil) }},
		{"storages.json", s.storages},
		{"log.txt", func(context.Context) ([]byte, error) { return s.Recent(), nil }},
		{"journal.txt", journal},
		{"system.txt", system},
	}
}

func asJSON(v any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(v, "", "  ")
}

// storages are those of the settings, with their room.
func (s *Source) storages(context.Context) ([]byte, error) {
	type room struct {
		Name, Path, Use string
		Size, Free      int64  // bytes
		Problem         string `json:",omitempty"`
	}
	list := []room{}
	for _, v := range s.Storages.Now() {
		r := room{Name: v.Name, Path: v.Path, Use: string(v.Use)}
		var err error
		if r.Size, r.Free, err = v.Room(); err != nil {
			r.Problem = err.Error()
		}
		list = append(list, r)
	}
	return asJSON(list, nil)
}

// migrations adds the last ones, each with its small files.
func (s *Source) migrations(ctx context.Context, b *bundle, most int) error {
	if most == 0 {
		return nil
	}
	left := int64(mostEvidence)
	for _, m := range s.Engine.List(func(*model.Migration) bool { return true }, "", most).Items {
		text, err := asJSON(m, nil)
		if err != nil {
			return err
		}
		folder := "migrations/" + m.ID + "/"
		if err := b.add(folder+"migration.json", text); err != nil {
			return err
		}
		if err := s.kept(ctx, b, m.ID, folder, &left); err != nil {
			return err
		}
	}
	return nil
}

// kept adds the files that are kept of a migration, as long as there is room for them.
func (s *Source) kept(ctx context.Context, b *bundle, id, folder string, left *int64) error {
	files, err := s.Engine.Kept(ctx, id)
	if err != nil {
		b.trouble(folder, err)
		return nil
	}
	slices.SortFunc(files, func(a, b model.File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if f.Size > mostFile || f.Size > *left {
			b.trouble(folder+f.Path, fmt.Errorf("is left out: it has %d bytes", f.Size))
			continue
		}
		text, err := s.file(ctx, id, f.Path)
		if err != nil {
			b.trouble(folder+f.Path, err)
			continue
		}
		*left -= int64(len(text))
		if err := b.add(folder+"files/"+f.Path, text); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) file(ctx context.Context, id, path string) ([]byte, error) {
	r, _, err := s.Engine.OpenKept(ctx, id, path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, mostFile))
	return text, errors.Join(err, r.Close())
}

// bundle is one that is written.
type bundle struct {
	tar      *tar.Writer
	at       time.Time
	problems []string
}

func (b *bundle) trouble(name string, err error) {
	b.problems = append(b.problems, fmt.Sprintf("%s: %v\n", name, err))
}

// add adds a file, of a long one its end.
func (b *bundle) add(name string, text []byte) error {
	if len(text) > mostPart {
		text = text[len(text)-mostPart:]
	}
	text = blot(text)
	if err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o600, ModTime: b.at, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err := b.tar.Write(text)
	return err
}
