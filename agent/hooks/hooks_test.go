package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/webhook"
)

var document = Document{Migration: "01kaz3y2mq-web01", Name: "web01", When: "after", Stage: "convert", Folder: "/srv/kvm/web01", State: "running", Verdict: "proved"}

const documentJSON = `{"migration":"01kaz3y2mq-web01","name":"web01","when":"after","stage":"convert","folder":"/srv/kvm/web01","state":"running","verdict":"proved"}`

// folder makes one with programs of a shell's, by their names.
func folder(t *testing.T, scripts map[string]string) Runner {
	t.Helper()
	r := Runner{Folder: t.TempDir()}
	for _, dir := range []string{r.Folder, filepath.Dir(r.Folder)} {
		if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	for name, script := range scripts {
		path := filepath.Join(r.Folder, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func run(t *testing.T, r Runner, h Hook) Result {
	t.Helper()
	result, err := r.Run(t.Context(), h, document)
	if err != nil {
		t.Fatal(err)
	}
	if result.Took <= 0 && result.Outcome == OK {
		t.Error("it took no time")
	}
	result.Took = 0
	return result
}

func TestAProgramIsToldAndHeard(t *testing.T) {
	t.Setenv("PLANTED", "hunter2")
	r := folder(t, map[string]string{
		"tell": `cat; tr '\0' '\n' </proc/$$/environ; echo $#`, "fail": "echo out; echo no room >&2; exit 3", "hang": "echo began; sleep 60",
		"flood": "yes | head -c 10000000; echo end", "deaf": "exit 0", "bytes": `printf '\377ok'`,
	})
	const environ = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLANG=C.UTF-8\nHOME=/\n"
	for name, c := range map[string]struct {
		hook Hook
		want Result
	}{
		"well":            {Hook{Program: "tell"}, Result{Hook: "tell", Outcome: OK, Output: documentJSON + "\n" + environ + "0\n"}},
		"reads nothing":   {Hook{Program: "deaf"}, Result{Hook: "deaf", Outcome: OK}},
		"no text":         {Hook{Program: "bytes"}, Result{Hook: "bytes", Outcome: OK, Output: "\ufffdok"}},
		"fails":           {Hook{Program: "fail"}, Result{Hook: "fail", Outcome: Failed, Words: r.Folder + "/fail: exit status 3: out no room", Output: "out\nno room\n", Stops: true}},
		"fails, goes on":  {Hook{Program: "fail", OnFailure: Continue}, Result{Hook: "fail", Outcome: Failed, Words: r.Folder + "/fail: exit status 3: out no room", Output: "out\nno room\n"}},
		"takes too long":  {Hook{Program: "hang", Timeout: time.Second}, Result{Hook: "hang", Outcome: TimedOut, Words: "it did not end within 1s", Output: "began\n", Stops: true}},
		"is not there":    {Hook{Program: "none"}, Result{Hook: "none", Outcome: Failed, Words: "cannot use the hook none: there is no program none in " + r.Folder + ": put it there", Stops: true}},
		"says very much":  {Hook{Program: "flood"}, Result{Hook: "flood", Outcome: OK, Output: strings.Repeat("y\n", keep/2-2) + "end\n"}},
		"is no one thing": {Hook{Program: "tell", Webhook: "x"}, Result{Hook: "tellx", Outcome: Failed, Words: "cannot use the hook tellx: name one of program and webhook", Stops: true}},
	} {
		if diff := cmp.Diff(c.want, run(t, r, c.hook)); diff != "" {
			t.Errorf("a hook that %s: %s", name, diff)
		}
	}
}

func TestAMigrationThatIsCancelledEndsItsHook(t *testing.T) {
	r := folder(t, map[string]string{"hang": "sleep 60"})
	cancelled := errors.New("cancelled")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, cancelled)
	defer cancel()
	began := time.Now()
	if _, err := r.Run(ctx, Hook{Program: "hang"}, document); !errors.Is(err, cancelled) || time.Since(began) > 30*time.Second {
		t.Errorf("Run = %v after %v", err, time.Since(began))
	}
}

func TestOnlyProgramsOfTheFolderAreRun(t *testing.T) {
	r := folder(t, map[string]string{"good": "exit 0"})
	in := func(name string) string { return filepath.Join(r.Folder, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"loose", "plain", "shared"} {
		must(os.WriteFile(in(name), []byte("#!/bin/sh\n"), 0o755))
	}
	must(os.Chmod(in("loose"), 0o757))
	must(os.Chmod(in("shared"), 0o775))
	must(os.Chmod(in("plain"), 0o644))
	must(os.Mkdir(in("sub"), 0o755))
	must(os.WriteFile(in("sub/deep"), []byte("#!/bin/sh\n"), 0o755))
	must(os.Mkdir(in("open"), 0o755))
	must(os.WriteFile(in("open/deep"), []byte("#!/bin/sh\n"), 0o755))
	must(os.Chmod(in("open"), 0o777))
	for link, to := range map[string]string{"out": "/bin/true", "up": "../../../../bin/true", "within": "good", "deeper": "sub/deep", "opened": "open/deep", "nowhere": "none"} {
		must(os.Symlink(to, in(link)))
	}
	for name, want := range map[string]string{
		"good": "", "within": "", "deeper": "",
		"loose":     "others can write to " + in("loose") + ": run chmod go-w",
		"shared":    "others can write to " + in("shared"),
		"plain":     in("plain") + " is not a program: run chmod +x",
		"sub":       in("sub") + " is not a file",
		"opened":    "others can write to " + in("open"),
		"out":       "out is a link to ",
		"up":        "up is a link to ",
		"nowhere":   "there is no program nowhere",
		"sub/deep":  `"sub/deep" is no name of a program`,
		"../x":      `"../x" is no name of a program`,
		"/bin/true": `"/bin/true" is no name of a program`,
		".hidden":   `".hidden" is no name of a program`,
		"a b":       `"a b" is no name of a program`,
		"x\x00":     "is no name of a program",
		"-n":        `"-n" is no name of a program`,
		"good\n":    "is no name of a program",
	} {
		err := r.Check(Hook{Program: name})
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrHook) || !strings.Contains(err.Error(), want)) {
			t.Errorf("Check(%q) = %v, want %q", name, err, want)
		}
	}
	must(os.Chmod(r.Folder, 0o777))
	if err := r.Check(Hook{Program: "good"}); err == nil || !strings.Contains(err.Error(), "others can write to "+r.Folder) {
		t.Errorf("in a folder that all can write to: %v", err)
	}
	must(os.Chmod(r.Folder, 0o777|os.ModeSticky))
	if err := r.Check(Hook{Program: "good"}); err == nil || !strings.Contains(err.Error(), "others can write to "+r.Folder) {
		t.Errorf("in a sticky folder that all can write to: %v", err)
	}
	must(os.Chmod(r.Folder, 0o755))
	must(os.Chmod(filepath.Dir(r.Folder), 0o777))
	if err := r.Check(Hook{Program: "good"}); err == nil || !strings.Contains(err.Error(), "others can write to "+filepath.Dir(r.Folder)) {
		t.Errorf("below a folder that all can write to: %v", err)
	}
}

func TestAnotherUsersProgramIsNotRun(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal("needs root, to give files away")
		}
		t.Skip("needs root, to give files away")
	}
	r := folder(t, map[string]string{"theirs": "exit 0"})
	if err := os.Chown(filepath.Join(r.Folder, "theirs"), 65534, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(Hook{Program: "theirs"}); !errors.Is(err, ErrHook) || !strings.Contains(err.Error(), "is not root's: run chown root") {
		t.Errorf("Check = %v", err)
	}
	if err := os.Chown(filepath.Join(r.Folder, "theirs"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(r.Folder, 65534, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(Hook{Program: "theirs"}); !errors.Is(err, ErrHook) || !strings.Contains(err.Error(), "is not root's") {
		t.Errorf("in another's folder, Check = %v", err)
	}
}

func TestAWebhookIsAsked(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != documentJSON || !strings.HasPrefix(r.Header.Get(webhook.SignatureHeader), "sha256=") || r.Header.Get(webhook.DeliveryHeader) != "01kaz3y2mq-web01.after-convert."+r.URL.Path[1:] {
			t.Errorf("it got %q, %v, %v", body, err, r.Header)
		}
		switch r.URL.Path {
		case "/slow":
			<-stop
		case "/no":
			http.Error(w, "not today", http.StatusConflict)
		default:
			io.WriteString(w, "noted")
		}
	}))
	defer server.Close()
	defer close(stop)
	r := Runner{Folder: t.TempDir(), Webhooks: func(name string) (webhook.Target, error) {
		if name == "none" {
			return webhook.Target{}, errors.New("there is no webhook none: put it into hooks.webhooks")
		}
		return webhook.Target{URL: server.URL + "/" + name, Key: []byte("key")}, nil
	}}
	for _, c := range []struct {
		hook Hook
		want Result
	}{
		{Hook{Webhook: "well"}, Result{Hook: "well", Outcome: OK, Output: "noted"}},
		{Hook{Webhook: "no"}, Result{Hook: "no", Outcome: Failed, Words: `it answered 409 Conflict: "not today"`, Output: "not today\n", Stops: true}},
		{Hook{Webhook: "slow", Timeout: 200 * time.Millisecond}, Result{Hook: "slow", Outcome: TimedOut, Words: "it did not end within 200ms", Stops: true}},
		{Hook{Webhook: "none", OnFailure: Continue}, Result{Hook: "none", Outcome: Failed, Words: "cannot use the hook none: there is no webhook none: put it into hooks.webhooks"}},
	} {
		if diff := cmp.Diff(c.want, run(t, r, c.hook)); diff != "" {
			t.Errorf("%+v: %s", c.hook, diff)
		}
	}
}

func TestWhatIsAskedForWronglyIsTold(t *testing.T) {
	r := folder(t, map[string]string{"good": "exit 0"})
	for _, c := range []struct {
		hook Hook
		want string
	}{
		{Hook{}, "name one of program and webhook"},
		{Hook{Program: "good", Timeout: 25 * time.Hour}, "a timeout of 25h0m0s: write up to 24h0m0s"},
		{Hook{Program: "good", Timeout: -1}, "write up to 24h0m0s"},
		{Hook{Program: "good", OnFailure: "explode"}, `on failure "explode": write stop or continue`},
	} {
		if err := r.Check(c.hook); !errors.Is(err, ErrHook) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Check(%+v) = %v, want %s", c.hook, err, c.want)
		}
	}
	if got := (Hook{}).timeout(); got != 5*time.Minute {
		t.Errorf("the usual timeout is %v", got)
	}
}

func TestTheDocumentIsAsDescribed(t *testing.T) {
	got, err := json.Marshal(document)
	if err != nil || string(got) != documentJSON {
		t.Errorf("%s, %v", got, err)
	}
}
