package downloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/durable"
)

// withSecret are settings with a text that nobody is to find anywhere but in the image.
func withSecret(t *testing.T) (values map[string]string, secret string) {
	t.Helper()
	secret = "a-very-secret-comment"
	values = settings()
	values["settings"] = "log: {level: debug} # " + secret
	return values, secret
}

func TestWhatIsSecretIsKeptSealed(t *testing.T) {
	k, _ := keeper(t, booted(t))
	values, secret := withSecret(t)
	d, all := ready(t, k, Request{Form: model.DownloadFormRaw, Values: values})
	if !bytes.Contains(all, []byte(secret)) {
		t.Fatal("the image lacks it")
	}
	shown, err := json.Marshal(k.List())
	if err != nil || strings.Contains(string(shown), secret) || !strings.Contains(string(shown), d.ID) {
		t.Errorf("shown is %s, %v", shown, err)
	}
	var r record
	if err := json.Unmarshal(read(t, k.record(d.ID)), &r); err != nil || bytes.Contains(r.Made, []byte(secret)) || len(r.Made) == 0 {
		t.Errorf("it is not sealed: %v", err)
	}
	err = filepath.WalkDir(k.Folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if bytes.Contains(read(t, path), []byte(secret)) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has it, or can be read: %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestADownloadOutlivesTheAgent(t *testing.T) {
	k, _ := keeper(t, booted(t))
	d, all := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings()})
	again := opened(t, k.Config)
	if list := again.List(); len(list) != 1 || list[0].ID != d.ID || list[0].Etag != d.Etag {
		t.Errorf("there are %+v", list)
	}
	if err := again.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(fetched(t, again, d), all) {
		t.Error("its bytes are others now")
	}
	record, err := os.ReadFile(again.record(d.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(again.record(d.ID), again.record("unfinished")+durable.Part); err != nil {
		t.Fatal(err)
	}
	list := opened(t, k.Config).List()
	if left, err := os.ReadDir(k.records()); len(list) != 0 || len(left) != 0 || err != nil {
		t.Errorf("one that was not kept whole is there: %+v, %v, %v", list, left, err)
	}
	write(t, again.record(d.ID), string(record))
	if list := opened(t, k.Config).List(); len(list) != 1 {
		t.Errorf("there are %+v", list)
	}
	write(t, again.record(d.ID), "{")
	if list := opened(t, k.Config).List(); len(list) != 0 {
		t.Errorf("a damaged one is there: %+v", list)
	}
}

func TestADownloadEnds(t *testing.T) {
	k, now := keeper(t, booted(t))
	d, _ := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Life: time.Hour})
	dropped, _ := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings()})
	if err := k.Remove(dropped.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Find(dropped.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("one that was deleted: %v", err)
	}
	*now = now.Add(time.Hour)
	if _, _, err := k.Content(d.ID, d.Name); !errors.Is(err, ErrGone) || len(k.List()) != 0 {
		t.Errorf("one that has run out: %v", err)
	}
	if err := k.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Find(d.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("one that was swept: %v", err)
	}
	for _, folder := range []string{k.kept(), k.records()} {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}

func TestABaseThatHasChangedEndsItsDownloads(t *testing.T) {
	m := booted(t)
	k, _ := keeper(t, m)
	disk := read(t, filepath.Join(m.Dev, "vda"))
	write(t, inStorage(k, "base.raw"), string(disk))
	d, _ := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Base: place("base.raw")})
	write(t, inStorage(k, "base.raw"), string(disk)+"x")
	if _, _, err := k.Content(d.ID, d.Name); !errors.Is(err, ErrGone) {
		t.Errorf("changed: %v", err)
	}
	if err := os.Remove(inStorage(k, "base.raw")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Content(d.ID, d.Name); !errors.Is(err, ErrGone) {
		t.Errorf("removed: %v", err)
	}
}

func TestWhatCannotBeMadeIsToldAtOnce(t *testing.T) {
	k, _ := keeper(t, booted(t))
	nowhere := booted(t)
	write(t, filepath.Join(nowhere.Proc, "cmdline"), "quiet\n")
	other, _ := keeper(t, nowhere)
	for name, c := range map[string]struct {
		k    *Keeper
		r    Request
		is   error
		want string
	}{
		"a wrong address": {k, Request{Values: map[string]string{"address": "192.0.2.1"}}, firstboot.ErrSeed, "address: 192.0.2.1 lacks its prefix length"},
		"a wrong key":     {k, Request{Values: map[string]string{"hostnam": "a"}}, firstboot.ErrSeed, "write hostname"},
		"nothing":         {k, Request{}, firstboot.ErrSeed, "it would say nothing"},
		"too long":        {k, Request{Values: settings(), Life: LongestLife + 1}, ErrInput, "7 days at most"},
		"no appliance":    {other, Request{Values: settings()}, ErrBase, "name an image in a storage as base"},
	} {
		c.r.Form = model.DownloadFormRaw
		if _, err := c.k.Make(c.r); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.k.List()) != 0 {
			t.Errorf("%s: it is there", name)
		}
	}
	for range most {
		done(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Base: place("none")})
	}
	if _, err := k.Make(Request{Form: model.DownloadFormRaw, Values: settings()}); !errors.Is(err, ErrMany) {
		t.Errorf("one too many: %v", err)
	}
}

func TestAnOVATakesWhatFitsAProperty(t *testing.T) {
	if _, err := properties(map[string]string{"trust": strings.Repeat("a\n", 30<<10)}); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "trust") {
		t.Errorf("got %v", err)
	}
}
