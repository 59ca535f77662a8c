package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/initramfs/verity"
)

// ram is where the root is read to, on request.
const ram = "/run/hyper2kvm-ram"

// mountRoot mounts the root read-only.
func mountRoot(o Options, h home) error {
	root, hashes := h.root.Device(), h.hashes.Device()
	if o.ToRAM {
		var err error
		if root, hashes, err = toRAM(h); err != nil {
			return err
		}
	}
	if h.hashes.Name != "" {
		checked, err := verity.Open("hyper2kvm-root", root, hashes, o.RootHash)
		if err != nil {
			return sentence("the root on %s cannot be checked: %v", "write the image to the disk anew", h.disk, err)
		}
		root = checked
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(root, newRoot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return sentence("the root on %s cannot be read: %v", "the disk or what was written to it is damaged: write the image anew, to another disk if it happens again", h.disk, err)
	}
	return nil
}

// toRAM reads the root, and the hashes it is checked by, into memory.
func toRAM(h home) (root, hashes string, err error) {
	need := h.root.Size + h.hashes.Size
	if free := memory(); need > free*3/4 {
		return "", "", sentence("the machine has %d MiB of memory free, and reading the appliance into it takes %d", "give it more memory, or choose the boot entry that leaves it on its disk", free>>20, need>>20)
	}
	if err := os.MkdirAll(ram, 0o700); err != nil {
		return "", "", err
	}
	if err := unix.Mount("tmpfs", ram, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=100%"); err != nil {
		return "", "", fmt.Errorf("mount %s: %w", ram, err)
	}
	if root, err = fetched(h.root, h.disk); err == nil && h.hashes.Name != "" {
		hashes, err = fetched(h.hashes, h.disk)
	}
	if err == nil {
		say("the appliance is in memory: %s may be taken away now. What it keeps is lost when it is switched off.", h.disk)
	}
	return root, hashes, err
}

// memory is how much is free, in bytes.
func memory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Freeram) * int64(info.Unit)
}

// fetched reads a partition into memory, and returns a device that has it.
func fetched(p Partition, d Disk) (device string, err error) {
	from, err := os.Open(p.Device())
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.OpenFile(ram+"/"+p.Name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer to.Close()
	n, err := io.Copy(&meter{Writer: to, total: p.Size, told: time.Now()}, from)
	if err == nil && n != p.Size {
		err = fmt.Errorf("it ends after %d of %d bytes", n, p.Size)
	}
	if err != nil {
		return "", sentence("%s cannot be read into memory: %v", "leave it plugged in until it says otherwise; if it was, try another one", d, err)
	}
	return loop(to)
}

// meter tells every few seconds how far a copy is.
type meter struct {
	io.Writer
	done, total int64
	told        time.Time
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.Writer.Write(b)
	m.done += int64(n)
	if time.Since(m.told) > 3*time.Second {
		m.told = time.Now()
		say("reading into memory: %d of %d MiB", m.done>>20, m.total>>20)
	}
	return n, err
}

// loop makes a read-only device of a file.
// Source: loop(4).
func loop(f *os.File) (device string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", err
	}
	device = fmt.Sprintf("/dev/loop%d", n)
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	err = unix.IoctlLoopConfigure(int(d.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY}})
	return device, errors.Join(err, d.Close())
}
