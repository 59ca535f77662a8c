package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
)

// slow is an engine that counts what it is asked.
type slow struct {
	Guest // of which all that writes or mounts is taken for done
	asked []string
	big   []byte
}

func (s *slow) ask(what, name string) { s.asked = append(s.asked, what+" "+name) }

func (s *slow) Lstat(name string) (Info, error) {
	s.ask("lstat", name)
	switch name {
	case "/etc/absent":
		return Info{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	case "/etc/broken":
		return Info{}, errors.New("no answer")
	}
	return Info{Name: "file", Size: 4}, nil
}

func (s *slow) ReadDir(name string) ([]Info, error) {
	s.ask("readdir", name)
	return []Info{{Name: "fstab", Size: 7}}, nil
}

func (s *slow) Readlink(name string) (string, error) { s.ask("readlink", name); return "target", nil }

func (s *slow) ReadFile(name string, limit int64) ([]byte, error) {
	s.ask("read", name)
	switch {
	case name == "/etc/absent":
		return nil, fs.ErrNotExist
	case name == "/big":
		return s.big, nil
	case limit < 4:
		return nil, ErrTooBig
	}
	return []byte("text"), nil
}

func (s *slow) Xattrs(name string) (map[string][]byte, error) {
	s.ask("xattrs", name)
	if name == "/big" {
		return map[string][]byte{"user.x": s.big}, nil
	}
	return map[string][]byte{"user.x": []byte("value")}, nil
}

func (s *slow) WriteFile(string, int64, []byte) error               { return nil }
func (s *slow) Truncate(string, int64) error                        { return nil }
func (s *slow) Mkdir(string, fs.FileMode) error                     { return nil }
func (s *slow) Symlink(string, string) error                        { return nil }
func (s *slow) Remove(string) error                                 { return nil }
func (s *slow) SetMeta(string, Meta) error                          { return nil }
func (s *slow) Mount(string, string) error                          { return nil }
func (s *slow) MountSubvolume(string, uint64, string) error         { return nil }
func (s *slow) UnmountAll() error                                   { return nil }
func (s *slow) Check(context.Context, string) (h Health, err error) { return h, nil }
func (s *slow) Grow(context.Context, Resize) error                  { return nil }

// look reads everything, spoils what it is given, and tells what it was.
func look(t *testing.T, g Guest) string {
	t.Helper()
	info, err := g.Lstat("/etc/file")
	_, absent := g.Lstat("/etc/absent")
	list, failed := g.ReadDir("/etc")
	listed, unlisted := g.Lstat("/etc/fstab")
	target, unread := g.Readlink("/etc/link")
	text, without := g.ReadFile("/etc/file", 4)
	_, over := g.ReadFile("/etc/file", 3)
	_, gone := g.ReadFile("/etc/absent", 4)
	attrs, none := g.Xattrs("/etc/file")
	if err := errors.Join(err, failed, unlisted, unread, without, none); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(absent, fs.ErrNotExist) || !errors.Is(over, ErrTooBig) || !errors.Is(gone, fs.ErrNotExist) {
		t.Errorf("errors %v, %v, %v", absent, over, gone)
	}
	said := fmt.Sprint(info.Size, list, listed.Size, target, string(text), string(attrs["user.x"]))
	text[0], list[0].Name, attrs["user.x"][0] = 'X', "X", 'X'
	attrs["user.y"] = nil
	return said
}

func TestWhatWasReadIsRemembered(t *testing.T) {
	s := &slow{}
	g := Remember(s)
	first := look(t, g)
	want := []string{"lstat /etc/file", "lstat /etc/absent", "readdir /etc", "readlink /etc/link", "read /etc/file", "read /etc/file", "read /etc/absent", "xattrs /etc/file"}
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked for %q", s.asked)
	}
	s.asked = nil
	if again := look(t, g); again != first {
		t.Errorf("at first %s, then %s", first, again)
	}
	if want := []string{"read /etc/file"}; !slices.Equal(s.asked, want) { // of which too little was wanted
		t.Errorf("asked again for %q", s.asked)
	}
}

func TestAnErrorThatMayPassIsNotRemembered(t *testing.T) {
	s := &slow{}
	g := Remember(s)
	for range 2 {
		if _, err := g.Lstat("/etc/broken"); err == nil {
			t.Error("it was answered")
		}
	}
	if len(s.asked) != 2 {
		t.Errorf("asked for %q", s.asked)
	}
}

func TestWhatIsWrittenOrMountedIsReadAnew(t *testing.T) {
	for name, change := range map[string]func(Guest) error{
		"write":     func(g Guest) error { return g.WriteFile("/f", 0, nil) },
		"truncate":  func(g Guest) error { return g.Truncate("/f", 0) },
		"mkdir":     func(g Guest) error { return g.Mkdir("/f", 0) },
		"symlink":   func(g Guest) error { return g.Symlink("/f", "/g") },
		"remove":    func(g Guest) error { return g.Remove("/f") },
		"setmeta":   func(g Guest) error { return g.SetMeta("/f", Meta{}) },
		"mount":     func(g Guest) error { return g.Mount("disk0", "/") },
		"subvolume": func(g Guest) error { return g.MountSubvolume("disk0", 5, "/") },
		"unmount":   func(g Guest) error { return g.UnmountAll() },
		"check":     func(g Guest) error { _, err := g.Check(t.Context(), "disk0"); return err },
		"grow":      func(g Guest) error { return g.Grow(t.Context(), Resize{}) },
	} {
		s := &slow{}
		g := Remember(s)
		look(t, g)
		first := slices.Clone(s.asked)
		s.asked = nil
		if err := change(g); err != nil {
			t.Fatal(err)
		}
		if look(t, g); !slices.Equal(s.asked, first) {
			t.Errorf("after %s asked for %q, want %q", name, s.asked, first)
		}
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	s := &slow{big: make([]byte, maxOfAFile+1)}
	g := Remember(s).(*remembered)
	for range 2 {
		if data, err := g.ReadFile("/big", 1<<30); len(data) != len(s.big) || err != nil {
			t.Fatal(len(data), err)
		}
		if attrs, err := g.Xattrs("/big"); len(attrs["user.x"]) != len(s.big) || err != nil {
			t.Fatal(len(attrs["user.x"]), err)
		}
	}
	if len(s.asked) != 4 || g.bytes != 0 {
		t.Errorf("asked for %q, and %d bytes are remembered", s.asked, g.bytes)
	}
	s.big = s.big[:maxOfAFile-len("user.x")]
	for i := range 2 * maxBytes / maxOfAFile {
		if _, err := g.Xattrs("/big"); err != nil {
			t.Fatal(err)
		}
		g.attrs[fmt.Sprint(i)] = g.attrs["/big"]
		delete(g.attrs, "/big")
		if g.bytes > maxBytes || int64(len(g.attrs))*maxOfAFile > maxBytes {
			t.Fatalf("attributes of %d files, %d bytes, are remembered", len(g.attrs), g.bytes)
		}
	}
	g.forget()
	s.big = s.big[:cap(s.big)-1]
	for i := range 2 * maxBytes / maxOfAFile {
		if _, err := g.ReadFile("/big", 1<<30); err != nil {
			t.Fatal(err)
		}
		g.files[fmt.Sprint(i)] = g.files["/big"]
		delete(g.files, "/big")
		if g.bytes > maxBytes || int64(len(g.files))*maxOfAFile > maxBytes {
			t.Fatalf("%d files of %d bytes are remembered", len(g.files), g.bytes)
		}
	}
	for i := range maxRemembered + 10 {
		if _, err := g.Lstat(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if len(g.infos) > maxRemembered {
			t.Fatalf("%d infos are remembered", len(g.infos))
		}
	}
}
