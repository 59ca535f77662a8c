package transfer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/otherkernel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/loop/looptest"
	"hyper2kvm/pipeline/proc"
)

func TestMain(m *testing.M) { otherkernel.Main(m) }

// sticks are the file systems of sticks and Windows' disks, and how they are made. They
// lack what others have: owners, a renaming that replaces nothing, and most of them holes.
var sticks = map[string][]string{
	"exfat":   {"mkfs.exfat"},
	"vfat":    {"mkfs.vfat", "-F", "32"},
	"fuseblk": {"mkfs.ntfs", "--quick", "--force"},
}

// TestSticksTakeCopies whole and in pieces, as any storage does.
func TestSticksTakeCopies(t *testing.T) {
	guesttest.Slow(t, "mkfs.exfat", "mkfs.vfat", "mkfs.ntfs", "ntfs-3g")
	data := patterned(80 << 20)
	s := source(t, data)
	for fstype, command := range sticks {
		t.Run(fstype, func(t *testing.T) {
			if !known(fstype) {
				t.Skip("this kernel has it not; that of TestAFullKernelWritesToSticks does")
			}
			dir := stick(t, fstype, command)
			for _, format := range []string{disk.Raw, disk.QCOW2} {
				job := jobOf(s, filepath.Join(dir, format), disk.Shape{Format: format})
				if err := os.Mkdir(filepath.Dir(job.To.Path), 0o755); err != nil {
					t.Fatal(err)
				}
				killAt(t, job, 40<<20)
				if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
					t.Fatalf("%s: %v", format, err)
				}
				if !bytes.Equal(content(t, job.To.Path, format), data) {
					t.Errorf("%s: the copy differs", format)
				}
				if left := filesIn(t, filepath.Dir(job.To.Path)); !slices.Equal(left, []string{"out.manifest", "out." + format}) {
					t.Errorf("%s: there is %q", format, left)
				}
				if _, err := (Parallel{}).Copy(t.Context(), []Job{{ID: "another", From: job.From, To: job.To}}, silent); !errors.Is(err, ErrTarget) {
					t.Errorf("%s: a copy over another: %v, want %v", format, err, ErrTarget)
				}
			}
			large := Target{Path: filepath.Join(dir, "large.qcow2"), Shape: disk.Shape{Format: disk.QCOW2}, Size: 4 << 30}
			err := large.vacant("x")
			if fstype != "vfat" && err != nil || fstype == "vfat" && (!errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "FAT")) {
				t.Errorf("a disk of 4 GiB: %v", err)
			}
		})
	}
}

// known tells whether the kernel mounts a file system.
func known(fstype string) bool {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	return err == nil && unix.Close(fd) == nil
}

// stick is a mounted file system of its own.
func stick(t *testing.T, fstype string, command []string) (dir string) {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "stick"), t.TempDir()
	run := func(name string, args ...string) string {
		out, err := proc.Run(t.Context(), name, args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 300<<20)); err != nil {
		t.Fatal(err)
	}
	node := looptest.Device(t, file)
	run(command[0], append(slices.Clone(command[1:]), node)...)
	if fstype == "fuseblk" {
		run("ntfs-3g", node, dir)
	} else if err := unix.Mount(node, dir, fstype, 0, "errors=remount-ro"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestAFullKernelWritesToSticks is TestSticksTakeCopies under a kernel that has FAT and exFAT,
// whatever this machine's has.
func TestAFullKernelWritesToSticks(t *testing.T) {
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("starts one of many machines: set NEED_VMS=matrix")
	}
	otherkernel.Machine{
		Programs: []string{"mkfs.exfat", "mkfs.vfat", "mkfs.ntfs", "ntfs-3g", "qemu-img", "qemu-nbd", "qemu-storage-daemon"},
		Modules:  []string{"loop", "vfat", "nls_cp437", "nls_ascii", "exfat", "fuse"},
		Tests:    []string{"TestSticksTakeCopies"},
		Limit:    10 * time.Minute,
	}.Run(t)
}
