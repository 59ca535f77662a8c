package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// root skips a test that needs rights to take away.
func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("NEED_TOOLS") != "" {
		t.Fatal("needs root, to run programs as others")
	}
	t.Skip("needs root, to run programs as others")
}

func TestAProgramHasNobodysRights(t *testing.T) {
	root(t)
	const tell = `grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs):' /proc/self/status | tr -s '\t ' ' '; ls -l /proc/$$/fd | grep -c socket:; cat /root/secret $0.secret 2>&1`
	r := folder(t, map[string]string{"tell": tell})
	if err := os.WriteFile(filepath.Join(r.Folder, "tell.secret"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	const none = "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1\n0\n"
	for name, ids := range map[string]string{"": "65534", "nobody": "65534", "65534": "65534", "daemon": "1"} {
		r.User = name
		got := run(t, r, Hook{Program: "tell", OnFailure: Continue}).Output
		want := "Uid: " + strings.Repeat(" "+ids, 4)[1:] + "\nGid: " + strings.Repeat(" "+ids, 4)[1:] + "\nGroups: \n" + none
		if !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("as %q it says\n%s\nwant\n%s", name, got, want)
		}
	}
	r.User = "root"
	if got := run(t, r, Hook{Program: "tell", OnFailure: Continue}).Output; !strings.Contains(got, "NoNewPrivs: 1\n") || !strings.Contains(got, "Groups: \n") || !strings.HasSuffix(got, "hunter2") {
		t.Errorf("as root it says\n%s", got)
	}
}

func TestAProgramThatItsUserMayNotRunSaysSo(t *testing.T) {
	root(t)
	r := folder(t, map[string]string{"closed": "exit 0"})
	if err := os.Chmod(filepath.Join(r.Folder, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := run(t, r, Hook{Program: "closed"}); got.Outcome != Failed || !strings.Contains(got.Words, "it runs as nobody, who has to be let read and run it") {
		t.Errorf("Run = %+v", got)
	}
}

func TestWhomProgramsRunAs(t *testing.T) {
	for _, c := range []struct {
		name string
		self int
		want *proc.User
		err  string
	}{
		{"", 0, &proc.User{UID: 65534, GID: 65534}, ""},
		{"root", 0, &proc.User{}, ""},
		{"", 1000, nil, ""},
		{"daemon", 1, nil, ""},
		{"daemon", 1000, nil, "only root can have them do so"},
		{"no-such-user", 0, nil, "this host has no user no-such-user: name another one in the settings, hooks.user"},
	} {
		got, err := account(c.name, c.self)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("account(%q, %d) = %v, %v, want %v, %q", c.name, c.self, got, err, c.want, c.err)
		}
	}
}
