package guesttest

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
)

func space(t *testing.T, f Disk) {
	must(t, f.Mkdir("/folder", 0o755))
	must(t, f.Symlink("/folder/file", "/link"))
	write(t, f, "/folder/file", "data")
	of, err := f.Space("/folder")
	must(t, err)
	if of.Free < 1<<20 || of.Filesystem == "" {
		t.Errorf("space of /folder %+v", of)
	}
	for _, name := range []string{"/", "/link", "/folder/file"} {
		s, err := f.Space(name)
		if err != nil || s.Filesystem != of.Filesystem {
			t.Errorf("space of %s %+v, %v, not that of %+v", name, s, err, of)
		}
	}
	_, err = f.Space("/absent")
	wantError(t, "Space of an absent file", err, fs.ErrNotExist)
}

func limits(t *testing.T, f Disk) {
	write(t, f, "/ten", "0123456789")
	wantData(t, f, "/ten", "0123456789")
	if data, err := f.ReadFile("/ten", 10); err != nil || len(data) != 10 {
		t.Errorf("ReadFile at its limit = %q, %v", data, err)
	}
	_, err := f.ReadFile("/ten", 9)
	wantError(t, "ReadFile over its limit", err, guest.ErrTooBig)
	must(t, f.WriteFile("/huge", 8<<30, nil))
	if size := lstat(t, f, "/huge").Size; size != 8<<30 {
		t.Errorf("a sparse file's size = %d", size)
	}
	_, err = f.ReadFile("/huge", guest.MaxFile)
	wantError(t, "ReadFile of 8 GiB", err, guest.ErrTooBig)
}

func onlyRegular(t *testing.T, f Disk) {
	must(t, f.Mkdir("/dir", 0o755))
	must(t, f.Pipe("/pipe"))
	must(t, f.Symlink("/pipe", "/link"))
	for _, name := range []string{"/dir", "/pipe", "/link", "/"} {
		_, err := f.ReadFile(name, 10)
		wantError(t, "ReadFile "+name, err, guest.ErrNotRegular)
		wantError(t, "WriteFile "+name, f.WriteFile(name, 0, []byte("x")), guest.ErrNotRegular)
		wantError(t, "Truncate "+name, f.Truncate(name, 0), guest.ErrNotRegular)
	}
	if mode := lstat(t, f, "/pipe").Mode; mode.Type() != fs.ModeNamedPipe {
		t.Errorf("a pipe's mode = %v", mode)
	}
	if _, err := f.Readlink("/pipe"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Readlink of a pipe: error %v", err)
	}
	state, err := guest.StateOf(f, "/pipe")
	if err != nil || state.Kind != guest.Other {
		t.Errorf("StateOf a pipe = %v, %v", state, err)
	}
	must(t, f.Remove("/pipe"))
}

func folders(t *testing.T, f Disk) {
	must(t, f.Mkdir("/d", 0o755))
	names := []string{".hidden", "10", "9", "B", "a", "link", "sub", "ä"}
	for _, name := range slices.Backward(names) {
		switch name {
		case "link":
			must(t, f.Symlink("a", "/d/link"))
		case "sub":
			must(t, f.Mkdir("/d/sub", 0o711))
		default:
			write(t, f, "/d/"+name, name)
		}
	}
	list, err := f.ReadDir("/d")
	must(t, err)
	var got []string
	for _, info := range list {
		got = append(got, info.Name)
		if one := lstat(t, f, "/d/"+info.Name); !sameInfo(one, info) {
			t.Errorf("ReadDir says %+v, Lstat %+v", info, one)
		}
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Error("ReadDir: ", diff)
	}
}

func sameInfo(a, b guest.Info) bool {
	sameTime := a.MTime.Equal(b.MTime)
	a.MTime, b.MTime = time.Time{}, time.Time{}
	return a == b && sameTime
}
