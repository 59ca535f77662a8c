// Package libvirttest starts a libvirt daemon for one test alone.
package libvirttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

// Daemon starts a daemon and returns its URI: for root one for the whole host, in
// mounts of its own so that it finds nothing of another and leaves nothing
// behind, and for anybody else the user's own. Its QEMU runs as another user than
// root. A domain that is left at the test's end fails the test.
func Daemon(t testing.TB) (uri string) {
	t.Helper()
	for _, program := range []string{"bash", "libvirtd", "mount", "virsh"} {
		if _, err := proc.Look(program); err != nil {
			if os.Getenv("NEED_TOOLS") != "" || os.Getenv("NEED_VMS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	dir, err := proc.PrivateDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	service, uri := session(dir), "qemu+unix:///session?socket="+filepath.Join(dir, "libvirt", "libvirt-sock")
	if os.Geteuid() == 0 {
		service, uri = system(dir), "qemu+unix:///system?socket="+filepath.Join(dir, "libvirt-sock")
	}
	service.Ready = time.Minute
	daemon, err := proc.Start(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(empty(uri), daemon.Stop()); err != nil {
			t.Error(err)
		}
	})
	return uri
}

// Domains are the names of a daemon's domains, running or not.
func Domains(ctx context.Context, uri string) ([]string, error) {
	out, err := proc.Run(ctx, "virsh", "-q", "-c", uri, "list", "--all", "--name")
	return strings.Fields(string(out)), err
}

// empty ends the domains that are left, and tells of them.
func empty(uri string) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errors.New("libvirt does not answer"))
	defer cancel()
	left, err := Domains(ctx, uri)
	for _, name := range left {
		_, failed := proc.Run(ctx, "virsh", "-q", "-c", uri, "destroy", name)
		err = errors.Join(err, fmt.Errorf("the domain %s is left", name), failed)
	}
	return err
}

// session is a daemon of an ordinary user's.
func session(dir string) proc.Service {
	var env []string
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"} {
		env = append(env, name+"="+dir)
	}
	return proc.Service{Command: proc.Command{Name: "libvirtd", Env: env}, Socket: filepath.Join(dir, "libvirt", "libvirt-sock")}
}

// systemScript starts libvirtd where all that it writes is in memory, and where
// Debian's user for QEMU is known: only the package with systemd's units makes
// it. The user has the group of /dev/kvm, as on Debian. Without systemd there are
// no cgroups for libvirt to use, and no virtlogd.
const systemScript = `set -e
for d in /run /var/lib /var/log /var/cache /etc/libvirt; do mount -t tmpfs -o mode=755 tmpfs $d; done
cat /etc/passwd >/etc/libvirt/passwd
if ! grep -q ^libvirt-qemu: /etc/passwd; then
	echo "libvirt-qemu:x:64055:$(stat -c %g /dev/kvm || echo 64055)::/var/lib/libvirt:/usr/sbin/nologin" >>/etc/libvirt/passwd
	mount --bind /etc/libvirt/passwd /etc/passwd
fi
if ! grep -q ^libvirt-qemu: /etc/group; then
	{ cat /etc/group; echo libvirt-qemu:x:64055:; } >/etc/libvirt/group
	mount --bind /etc/libvirt/group /etc/group
fi
printf '%s\n' 'security_driver = "none"' 'stdio_handler = "file"' 'namespaces = []' 'cgroup_controllers = []' >/etc/libvirt/qemu.conf
printf '%s\n' "unix_sock_dir = \"$1\"" 'unix_sock_rw_perms = "0777"' 'auth_unix_rw = "none"' >/etc/libvirt/libvirtd.conf
exec libvirtd`

// system is a daemon for the whole host. Its folder may be entered: anybody may
// connect.
func system(dir string) proc.Service {
	return proc.Service{
		Command:       proc.Command{Name: "bash", Args: []string{"-c", "chmod 711 $1; " + systemScript, "bash", dir}},
		Socket:        filepath.Join(dir, "libvirt-sock"),
		PrivateMounts: true,
	}
}
